"""Variation, inpainting and zero-shot super-resolution: wrappers of the denoiser that compose with every sampler.

Images are (N, C, H, W) in [-1, 1].
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from genai.models.diffusion.preconditioning import Denoise
from genai.models.precision import is_slow


def last_sigmas(sigmas: Tensor, strength: float) -> Tensor:
    """The noise levels of the last share `strength` of the steps, rounded up to whole steps (SDEdit, Meng et al. 2021).

    Args:
        sigmas: decreasing noise levels; the last one is 0.
        strength: from 0 (no step, the image stays) to 1 (all steps, from pure noise).
    """
    steps = len(sigmas) - 1
    kept = math.ceil(round(strength * steps, 6))
    return sigmas[steps - kept :]


def inpainting(denoise: Denoise, image: Tensor, mask: Tensor) -> Denoise:
    """Replace the denoised image by `image` where `mask` (N, 1, H, W) is 0.

    Replacement (Song et al. 2020, arXiv:2011.13456, appendix I.2), of the denoised image. The last level of a sampler is 0, so
    the known pixels are exact in its result.
    """
    return lambda x, sigma: torch.where(mask > 0, denoise(x, sigma), image)


def super_resolution(denoise: Denoise, small: Tensor, factor: int) -> Denoise:
    """Project the denoised image to those whose means over squares of factor x factor pixels are `small` (N, C, H / f, W / f).

    DDNM (Wang et al. 2022, arXiv:2212.00490), where A is the mean over squares and its pseudo-inverse repeats pixels.
    """

    def wrapped(x: Tensor, sigma: Tensor) -> Tensor:
        denoised = denoise(x, sigma)
        return denoised + repeat_pixels(small - avg_pool2d(denoised, factor), factor)

    return wrapped


def with_callback(denoise: Denoise, callback: Callable[[Tensor, Tensor], Any]) -> Denoise:
    """Call `callback(x, sigma)` before each evaluation."""

    def wrapped(x: Tensor, sigma: Tensor) -> Tensor:
        callback(x, sigma)
        return denoise(x, sigma)

    return wrapped


def in_bfloat16(denoise: Denoise) -> Denoise:
    """Compute the network in bfloat16 (autocast), except on processors where that is slow. The result stays float32."""

    def wrapped(x: Tensor, sigma: Tensor) -> Tensor:
        if is_slow("bf16", x.device):
            return denoise(x, sigma)
        with torch.autocast(x.device.type, torch.bfloat16):
            return denoise(x, sigma)

    return wrapped


def repeat_pixels(image: Tensor, factor: int) -> Tensor:
    """(N, C, H, W) -> (N, C, H factor, W factor), each pixel repeated factor x factor times."""
    return interpolate(image, scale_factor=float(factor), mode="nearest")
