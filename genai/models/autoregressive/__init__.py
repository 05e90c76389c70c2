"""Models of text, and of images as sequences, that predict the next token.

autoregressive.py   transformers, recurrent networks and hidden Markov models, trained by gradient
ngram.py            n-grams with Kneser-Ney smoothing, fitted by counting
optimizers.py       several optimisers as one: Muon for matrices, AdamW for the rest
pixels.py           images as sequences of patches of pixels, with exact likelihood
"""
