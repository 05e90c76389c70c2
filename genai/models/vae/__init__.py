"""Variational autoencoders.

autoencoder.py: encoder, decoder, prior and likelihood in one module.
bound.py: the importance-weighted bound with many samples.
gaussian.py: distributions of latents.
likelihoods.py: p(x|z) of binarised and of 8-bit pixels.
metrics.py: active latent units.
objectives.py: ELBO and IWAE.
priors.py: p(z), standard normal or VampPrior.
vae.py: the LightningModule.
"""
