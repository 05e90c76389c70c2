"""Models of text, and of images as sequences, that predict the next token.

autoregressive.py   transformers, recurrent networks and hidden Markov models, trained by gradient
network_model.py    what models with a trained network share
ngram.py            n-grams with Kneser-Ney smoothing, fitted by counting
reinforce.py        fine-tuning with a reward
rewards.py          rewards of texts
muon.py             Muon in float32
optimizers.py       several optimisers as one: Muon for matrices, AdamW for the rest
pixels.py           images as sequences of patches of pixels, with exact likelihood
"""
