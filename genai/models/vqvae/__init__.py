"""Models with discrete codes: a tokenizer and an autoregressive prior."""
