"""From a network to a denoiser: D(x; sigma) = c_skip x + c_out F(c_in x, c_noise), x = x_0 + sigma n with n normal.

All of the family's noise levels are sigma, the standard deviation of the noise on a clean image (Karras et al. 2022, EDM,
arXiv:2206.00364, equation 7). Rectified flow's time is t = sigma / (1 + sigma): its x_t = (1 - t) x_0 + t n is x / (1 + sigma).
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Scales(NamedTuple):
    """c_skip, c_out, c_in and c_noise, each (N,)."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor


class Preconditioning(Protocol):
    """What the network sees and what it predicts."""

    def __call__(self, sigma: Tensor) -> Scales:
        """Noise levels (N,) -> scales (N,) each."""


@dataclass(frozen=True)
class EDM:
    """EDM, table 1: input and target of unit variance, c_out as small as can be.

    Args:
        sigma_data: standard deviation of the images' pixels.
    """

    sigma_data: float = 0.5

    def __call__(self, sigma: Tensor) -> Scales:
        total = sigma**2 + self.sigma_data**2
        c_skip = self.sigma_data**2 / total
        c_out = sigma * self.sigma_data * total.rsqrt()
        return Scales(c_skip, c_out, total.rsqrt(), sigma.log() / 4)


@dataclass(frozen=True)
class XPrediction:
    """The network predicts the image itself, from an input of unit variance.

    Args:
        sigma_data: standard deviation of the images' pixels.
    """

    sigma_data: float = 0.5

    def __call__(self, sigma: Tensor) -> Scales:
        c_in = (sigma**2 + self.sigma_data**2).rsqrt()
        return Scales(torch.zeros_like(sigma), torch.ones_like(sigma), c_in, sigma.log() / 4)


@dataclass(frozen=True)
class Velocity:
    """Rectified flow (Liu et al. 2022, arXiv:2209.03003): the network sees x_t and predicts v = n - x_0, so D = x_t - t v."""

    def __call__(self, sigma: Tensor) -> Scales:
        t = sigma / (1 + sigma)
        return Scales(1 - t, -t, 1 - t, 2 * t - 1)


def rows(values: Tensor) -> Tensor:
    """(N,) -> (N, 1, 1, 1)."""
    return values[:, None, None, None]
