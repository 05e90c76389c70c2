"""The forward process and the reverse trajectory as images for display; the ODE backwards, from images to their noise."""

from functools import partial

import torch
from torch import Tensor

from genai.models.diffusion.preconditioning import Denoise, append_dims
from genai.models.diffusion.samplers import SAMPLERS
from genai.models.diffusion.sigmas import karras

SIGMA_LOW, SIGMA_HIGH = 0.05, 10.0  # the noise is just visible; the image is not visible any more


def forward_process(images: Tensor, n: Tensor, num_levels: int) -> Tensor:
    """Images with more and more noise: (num_levels, N, C, H, W), the first without noise, see `normalise_brightness`.

    Args:
        images: (N, C, H, W) in [-1, 1].
        n: standard normal noise (N, C, H, W).
        num_levels: number of noise levels, 2 or more.
    """
    levels = karras(num_levels - 1, SIGMA_LOW, SIGMA_HIGH).flip(0).to(images.device, torch.float32)
    sigmas = levels[:, None].expand(-1, len(images))  # (num_levels, N)
    return torch.stack([normalise_brightness(images + append_dims(sigma) * n, sigma) for sigma in sigmas])


def normalise_brightness(x: Tensor, sigma: Tensor) -> Tensor:
    """x / sqrt(1 + sigma^2): noisy images (N, C, H, W) of levels sigma (N,), scaled to about [-1, 1]."""
    return x / append_dims(1 + sigma**2).sqrt()


def initial_noise(denoise: Denoise, images: Tensor, sigmas: Tensor, restore_from: float) -> Tensor:
    """The probability-flow ODE from images (N, C, H, W) to noise of unit variance (N, C, H, W), with Heun's method.

    Args:
        denoise: see `samplers`.
        images: in [-1, 1], taken as denoised at the level sigmas[0].
        sigmas: increasing noise levels.
        restore_from: 0, or the noise level from which the images are denoised once, as if they had this much noise. That
            restores edges and plain areas which resizing, cropping or compression have blurred.
    """
    noise = partial(torch.randn_like, images)  # unused: the solver is deterministic
    if restore_from:
        images = denoise(images, torch.full((len(images),), restore_from, device=images.device)).clamp(-1, 1)
    return SAMPLERS["heun"](denoise, images, sigmas, noise) / float(sigmas[-1])
