"""Models of text that predict the next token.

autoregressive.py   transformers, recurrent networks and hidden Markov models, trained by gradient
network_model.py    what models with a trained network share
ngram.py            n-grams with Kneser-Ney smoothing, fitted by counting
optimizers.py       several optimisers as one: Muon for matrices, AdamW for the rest
"""
