"""Weights of the denoising loss at each noise level. A new weighting is one small class."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from genai.models.diffusion.preconditioning import Denoise, Scales, append_dims


def denoising_loss(denoise: Denoise, x_0: Tensor, sigma: Tensor, n: Tensor, weight: Tensor) -> Tensor:
    """weight |D(x_0 + sigma n; sigma) - x_0|^2, mean over the pixels: (N,) (EDM, equation 8).

    Args:
        denoise: D.
        x_0: clean images (N, C, H, W).
        sigma: noise levels (N,).
        n: standard normal noise (N, C, H, W).
        weight: lambda(sigma) (N,), see `Weighting`.
    """
    denoised = denoise(x_0 + append_dims(sigma) * n, sigma)
    return weight * (denoised - x_0).square().mean(dim=(1, 2, 3))


class Weighting(ABC):
    """The weight lambda(sigma) of EDM, equation 8."""

    @abstractmethod
    def __call__(self, sigma: Tensor, scales: Scales) -> Tensor:
        """Noise levels (N,) and their preconditioning -> weights (N,)."""


@dataclass(frozen=True)
class NetworkOutput(Weighting):
    """1 / c_out^2: uniform weights of the network's output (EDM, section 5; for a flow, the error of the velocity)."""

    def __call__(self, sigma: Tensor, scales: Scales) -> Tensor:
        return scales.c_out**-2


@dataclass(frozen=True)
class VelocityError(Weighting):
    """(1 + sigma)^2 / sigma^2: the error of rectified flow's v for every preconditioning (JiT, Li & He 2025, arXiv:2511.13720).

    Args:
        sigma_min: the weight is constant below this level.
    """

    sigma_min: float = 0.05

    def __call__(self, sigma: Tensor, scales: Scales) -> Tensor:
        return (1 + 1 / sigma.clamp(min=self.sigma_min)) ** 2


@dataclass(frozen=True)
class MinSNR(Weighting):
    """min(1 / sigma^2, gamma) (Hang et al. 2023, arXiv:2303.09556).

    Args:
        gamma: the largest weight.
    """

    gamma: float = 5.0

    def __call__(self, sigma: Tensor, scales: Scales) -> Tensor:
        return (sigma**-2).clamp(max=self.gamma)
