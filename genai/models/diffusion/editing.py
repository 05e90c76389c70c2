"""Image variation, inpainting and zero-shot super-resolution: wrappers of the denoiser, for every sampler.

All images are (N, C, H, W) in [-1, 1].
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from genai.models.diffusion.samplers import Denoise
from genai.models.precision import is_slow


def start_level(sigmas: Tensor, strength: float) -> Tensor:
    """The last share `strength` of a schedule's steps, at least one of them unless it is 0 (SDEdit, Meng et al. 2021).

    Args:
        sigmas: decreasing levels and a final 0.
        strength: from 0 (change nothing) to 1 (start from noise alone).
    """
    steps = len(sigmas) - 1
    kept = math.ceil(round(strength * steps, 6))
    return sigmas[steps - kept :]


def known_pixels(denoise: Denoise, image: Tensor, mask: Tensor) -> Denoise:
    """Every denoised image is `image` where `mask` (N, 1, H, W) is 0, so that a sampler fills in the rest only.

    As the last level of a sampler is 0, the known pixels come out exactly (replacement; Song et al. 2020, arXiv:2011.13456,
    appendix I.2, on the denoised image).
    """
    return lambda x, sigma: torch.where(mask > 0, denoise(x, sigma), image)


def consistent(denoise: Denoise, small: Tensor, factor: int) -> Denoise:
    """Every denoised image, averaged over squares of `factor` pixels, is `small` (ILVR / DDNM's projection, Wang et al. 2022).

    DDNM, arXiv:2212.00490, with A the mean of factor x factor pixels and its pseudo-inverse their repetition.
    """

    def wrapped(x: Tensor, sigma: Tensor) -> Tensor:
        denoised = denoise(x, sigma)
        return denoised + enlarge(small - avg_pool2d(denoised, factor), factor)

    return wrapped


def watched(denoise: Denoise, watch: Callable[[Tensor, Tensor], Any]) -> Denoise:
    """Call `watch(x, sigma)` before each evaluation."""

    def wrapped(x: Tensor, sigma: Tensor) -> Tensor:
        watch(x, sigma)
        return denoise(x, sigma)

    return wrapped


def in_bfloat16(denoise: Denoise) -> Denoise:
    """Autocast the network to bfloat16, but where that is slow; what a denoiser returns is float32 all the same."""

    def wrapped(x: Tensor, sigma: Tensor) -> Tensor:
        if is_slow("bf16", x.device):
            return denoise(x, sigma)
        with torch.autocast(x.device.type, torch.bfloat16):
            return denoise(x, sigma)

    return wrapped


def enlarge(image: Tensor, factor: int) -> Tensor:
    """Each pixel repeated factor x factor times."""
    return interpolate(image, scale_factor=float(factor), mode="nearest")
