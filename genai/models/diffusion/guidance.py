"""Guidance: wraps the denoiser and composes with every sampler."""

import torch
from torch import Tensor

from genai.models.diffusion.preconditioning import Denoise, append_dims

Interval = tuple[float, float]
EVERYWHERE: Interval = (0.0, float("inf"))


def guided(denoise: Denoise, guide: Denoise, scale: float, interval: Interval = EVERYWHERE) -> Denoise:
    """D_guided = D_guiding + scale (D - D_guiding) where sigma is within `interval`, and D elsewhere.

    With the unconditional denoiser as `guide` this is classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598,
    equation 6, with scale = 1 + w); with a smaller or less trained model it is autoguidance (Karras et al. 2024,
    arXiv:2406.02507). The interval is that of Kynkaanniemi et al. (2024, arXiv:2404.07724).

    Args:
        denoise: the conditional denoiser D.
        guide: D_guiding.
        scale: guidance scale; 1 is no guidance.
        interval: lowest and highest sigma with guidance.
    """
    if scale == 1.0:
        return denoise

    def wrapped(x: Tensor, sigma: Tensor) -> Tensor:
        inside = (sigma >= interval[0]) & (sigma <= interval[1])
        denoised = denoise(x, sigma)
        if not torch.compiler.is_exporting() and not bool(inside.any()):
            return denoised
        guiding = guide(x, sigma)
        return torch.where(append_dims(inside), guiding + scale * (denoised - guiding), denoised)

    return wrapped
