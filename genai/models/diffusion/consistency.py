"""Consistency tuning (ECT, Geng et al. 2024, arXiv:2406.14548): a denoiser learns to jump to the end of its trajectory."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from genai.models.diffusion.preconditioning import rows
from genai.models.diffusion.samplers import Denoise


@dataclass(frozen=True)
class Consistency:
    """D at a noise level is to be D at a lower one with the same noise; the two levels come closer as training goes on.

    Args:
        doubling_kimg: thousands of images after which 1 - r / t is divided by q once more.
        q: so much closer each time.
        k: how much wider apart low levels are, see `lower`.
        b: where `k` fades.
        c: of the pseudo-Huber distance, times the square root of the number of pixel values; 0 is the plain distance.
    """

    doubling_kimg: float
    q: float = 2.0
    k: float = 8.0
    b: float = 1.0
    c: float = 0.0

    def lower(self, t: Tensor, images_seen: int) -> Tensor:
        """r = t (1 - n(t) / q^a), at least 0, with n(t) = 1 + k sigmoid(-b t), the mapping of the paper: (N,) -> (N,).

        a = 1 at first, when r is 0 for low levels: denoising, as the checkpoint has learned it.
        """
        a = math.floor(images_seen / (1000 * self.doubling_kimg)) + 1
        n = 1 + self.k * torch.sigmoid(-self.b * t)
        return t * (1 - n / self.q**a).clamp(min=0)

    def __call__(self, denoise: Denoise, x_0: Tensor, t: Tensor, n: Tensor, images_seen: int) -> Tensor:
        """Distance of D(x_0 + t n; t) to D(x_0 + r n; r), over t - r: (N,).

        Args:
            denoise: the network in training, (x, sigma) -> denoised.
            x_0: clean images (N, C, H, W).
            t: noise levels (N,).
            n: normal noise (N, C, H, W).
            images_seen: sets how far r is from t.
        """
        r = self.lower(t, images_seen)
        with torch.no_grad():
            lowest = torch.full_like(r, 1e-4)  # D is not defined at 0
            target = torch.where(rows(r) > 0, denoise(x_0 + rows(r) * n, torch.maximum(r, lowest)), x_0)
        squares = (denoise(x_0 + rows(t) * n, t) - target).square().flatten(1).sum(dim=1)
        c = self.c * math.sqrt(x_0[0].numel())
        distance = (squares + c**2).clamp(min=1e-16).sqrt() - c
        return distance / (t - r)
