"""Architectures: they map tensors to tensors and contain no losses.

attention.py      self-attention
autoencoder.py    encoders and decoders of latent variable models
codec.py          encoder and decoder between images and grids of vectors
conditioning.py   embeddings of a class, attributes, a caption and the noise level
convnet.py        a residual classifier
dcgan.py          DCGAN's generator and discriminator
dit.py            a diffusion transformer
hidden_markov.py  a hidden Markov model of tokens
kneser_ney.py     n-grams with Kneser-Ney smoothing
mlp.py            multilayer perceptrons for GANs
normalisation.py  RMS normalisation
pixelcnn.py       gated masked convolutions over tokens of images
recurrent.py      LSTM and minGRU
resnet.py         R3GAN's generator and discriminator
transformer.py    a causal transformer
unet.py           a denoising UNet
"""
