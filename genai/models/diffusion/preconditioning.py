"""From a network to a denoiser: D(x; sigma) = c_skip x + c_out F(c_in x, c_noise), x = x_0 + sigma n with n ~ N(0, I).

Every noise level of this family is sigma, the standard deviation of the noise on a clean image (Karras et al. 2022, EDM,
arXiv:2206.00364, equation 7). The time of rectified flow is t = sigma / (1 + sigma): its x_t = (1 - t) x_0 + t n is
x / (1 + sigma).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

Network = Callable[..., Tensor]  # (x, c_noise, condition, conditioning_image) -> image
Denoise = Callable[[Tensor, Tensor], Tensor]  # noisy images (N, C, H, W), noise levels (N,) -> denoised images


class Scales(NamedTuple):
    """c_skip, c_out, c_in and c_noise, each (N,)."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor


class Preconditioning(Protocol):
    """Scales the network's input and output."""

    def __call__(self, sigma: Tensor) -> Scales:
        """Noise levels (N,) -> scales (N,) each."""


@dataclass(frozen=True)
class EDM:
    """EDM, table 1: input and target have unit variance, and c_out is as small as possible.

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
    """The network predicts the clean image; its input has unit variance.

    Args:
        sigma_data: standard deviation of the images' pixels.
    """

    sigma_data: float = 0.5

    def __call__(self, sigma: Tensor) -> Scales:
        c_in = (sigma**2 + self.sigma_data**2).rsqrt()
        return Scales(torch.zeros_like(sigma), torch.ones_like(sigma), c_in, sigma.log() / 4)


@dataclass(frozen=True)
class Velocity:
    """Rectified flow (Liu et al. 2022, arXiv:2209.03003): the network gets x_t and predicts v = n - x_0, so D = x_t - t v."""

    def __call__(self, sigma: Tensor) -> Scales:
        t = sigma / (1 + sigma)
        return Scales(1 - t, -t, 1 - t, 2 * t - 1)


def precondition(
    network: Network,
    preconditioning: Preconditioning,
    x: Tensor,
    sigma: Tensor,
    condition: Tensor | None = None,
    conditioning_image: Tensor | None = None,
) -> Tensor:
    """D(x; sigma) of EDM, equation 7: (N, C, H, W), float32 whatever precision the network computes in.

    Args:
        network: F.
        preconditioning: scales its input and output.
        x: noisy images (N, C, H, W).
        sigma: noise levels (N,).
        condition: encoded labels, see `encode_labels`.
        conditioning_image: (N, C + 1, H, W), see `ConditioningImage`.
    """
    scales = preconditioning(sigma)
    output = network(append_dims(scales.c_in) * x, scales.c_noise, condition, conditioning_image).float()
    return append_dims(scales.c_skip) * x + append_dims(scales.c_out) * output


def append_dims(values: Tensor) -> Tensor:
    """(N,) -> (N, 1, 1, 1)."""
    return values[:, None, None, None]
