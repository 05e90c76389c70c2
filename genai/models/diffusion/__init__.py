"""Diffusion and rectified flow.

diffusion.py            Diffusion, the LightningModule: sampling, editing, likelihood
denoising_model.py      its training
preconditioning.py      from a network to a denoiser: EDM, XPrediction, Velocity
noise.py                distributions of the noise levels in training
weighting.py            the denoising loss and its weights
consistency.py          the loss of consistency tuning
nft.py                  fine-tuning with a reward: DiffusionNFT
sampling.py             Sampling: sampler, noise schedule, guidance scale
samplers.py             the samplers: euler, heun, ddpm, ddim, dpmpp, unipc, adaptive, consistency
sigmas.py               noise schedules of samplers
guidance.py             classifier-free guidance and autoguidance
editing.py              variation, inpainting, zero-shot super-resolution
conditioning_image.py   conditioning images for inpainting and super-resolution
likelihood.py           log-density by the probability-flow ODE
process.py              the forward process as images
"""
