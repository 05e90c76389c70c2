"""Guidance: wrappers of the denoiser that push it towards the condition. They compose with every sampler."""

import torch
from torch import Tensor

from genai.models.diffusion.preconditioning import rows
from genai.models.diffusion.samplers import Denoise

Interval = tuple[float, float]
EVERYWHERE: Interval = (0.0, float("inf"))


def guided(denoise: Denoise, guiding_model: Denoise, scale: float, interval: Interval = EVERYWHERE) -> Denoise:
    """guiding_model + scale (denoise - guiding_model), where sigma is within `interval`; elsewhere `denoise` alone.

    With an unconditional `guiding_model` it is classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598, equation 6, with
    scale = 1 + w); with a worse model autoguidance (Karras et al. 2024, arXiv:2406.02507); the interval is
    Kynkaanniemi et al.'s (2024, arXiv:2404.07724). Scale 1 is no guidance.

    Args:
        denoise: the model asked.
        guiding_model: the model to move away from.
        scale: how far; 1 or more.
        interval: lowest and highest sigma that is guided.
    """
    if scale == 1.0:
        return denoise

    def wrapped(x: Tensor, sigma: Tensor) -> Tensor:
        inside = (sigma >= interval[0]) & (sigma <= interval[1])
        good = denoise(x, sigma)
        if not bool(inside.any()):
            return good
        bad = guiding_model(x, sigma)
        return torch.where(rows(inside), bad + scale * (good - bad), good)

    return wrapped
