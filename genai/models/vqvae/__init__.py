"""Models with discrete codes, trained in two stages: a tokenizer, then an autoregressive prior.

code_model.py: the base of models of codes: networks, averages, samples.
code_sampling.py: temperature, top-k, top-p and one uniform number for each code.
metrics.py: how many codes are used.
prior.py: the second stage, a transformer that predicts the codes.
quantizers.py: VectorQuantizer and FSQ.
reconstruction.py: losses between the output of the decoder and the image.
reinforce.py: fine-tuning of the prior with a reward.
tokenizer.py: the first stage, encoder, quantizer and decoder.
vqvae.py: the LightningModule that trains both stages.
"""
