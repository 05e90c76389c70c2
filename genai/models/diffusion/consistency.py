"""Consistency tuning (ECT, Geng et al. 2024, arXiv:2406.14548): a trained denoiser learns to sample in one or two steps."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from genai.models.diffusion.preconditioning import Denoise, append_dims


@dataclass(frozen=True)
class Consistency:
    """The loss is the distance of D at noise level t to D at a lower level r, with the same noise. r approaches t in training.

    Args:
        doubling_kimg: thousands of images after which 1 - r / t is divided by q once more.
        q: that divisor.
        k: how much further r is from t at low levels, see `lower_level`.
        b: how fast the effect of `k` fades with t.
        c: of the pseudo-Huber distance, times the square root of the number of pixel values; 0 is the L2 distance.
    """

    doubling_kimg: float
    q: float = 2.0
    k: float = 8.0
    b: float = 1.0
    c: float = 0.0

    def lower_level(self, t: Tensor, images_seen: int) -> Tensor:
        """r = t (1 - n(t) / q^a), at least 0, with n(t) = 1 + k sigmoid(-b t), the mapping of the paper: (N,) -> (N,).

        At first a = 1 and r = 0 for low levels: the denoising loss that the network was trained with.
        """
        a = math.floor(images_seen / (1000 * self.doubling_kimg)) + 1
        n = 1 + self.k * torch.sigmoid(-self.b * t)
        return t * (1 - n / self.q**a).clamp(min=0)

    def __call__(self, denoise: Denoise, x_0: Tensor, t: Tensor, n: Tensor, images_seen: int) -> Tensor:
        """Distance of D(x_0 + t n; t) to D(x_0 + r n; r), divided by t - r: (N,).

        Args:
            denoise: D with the trained network.
            x_0: clean images (N, C, H, W).
            t: noise levels (N,).
            n: standard normal noise (N, C, H, W).
            images_seen: determines the distance of r to t.
        """
        r = self.lower_level(t, images_seen)
        with torch.no_grad():
            lowest = torch.full_like(r, 1e-4)  # D is not defined at 0
            denoised_r = denoise(x_0 + append_dims(r) * n, torch.maximum(r, lowest))
            target = torch.where(append_dims(r) > 0, denoised_r, x_0)
        squares = (denoise(x_0 + append_dims(t) * n, t) - target).square().flatten(1).sum(dim=1)
        c = self.c * math.sqrt(x_0[0].numel())
        distance = (squares + c**2).clamp(min=1e-16).sqrt() - c
        return distance / (t - r)
