"""Distributions of the noise levels in training. A new distribution is one small class."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


class NoiseDistribution(ABC):
    """A distribution of sigma."""

    @abstractmethod
    def __call__(self, u: Tensor) -> Tensor:
        """Uniform numbers (N,) in (0, 1) -> sigma (N,), by the inverse of the distribution function."""


@dataclass(frozen=True)
class LogNormal(NoiseDistribution):
    """ln sigma ~ N(mean, std^2) (EDM, table 1). Since ln sigma = logit t, it is also the logit-normal time of flows.

    Args:
        mean: mean of ln sigma.
        std: standard deviation of ln sigma.
    """

    mean: float = -1.2
    std: float = 1.2

    def __call__(self, u: Tensor) -> Tensor:
        return (self.mean + self.std * torch.special.ndtri(u)).exp()


@dataclass(frozen=True)
class LogUniform(NoiseDistribution):
    """ln sigma uniform between two noise levels.

    Args:
        sigma_min: lowest level.
        sigma_max: highest level.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __call__(self, u: Tensor) -> Tensor:
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** u


@dataclass(frozen=True)
class UniformTime(NoiseDistribution):
    """The time t of rectified flow uniform in (0, 1), with sigma = shift t / (1 - t).

    Args:
        shift: factor on every sigma (Esser et al. 2024, arXiv:2403.03206, equation 23); above 1, more high noise levels.
    """

    shift: float = 1.0

    def __call__(self, u: Tensor) -> Tensor:
        return self.shift * u / (1 - u)


def stratified_uniform(
    num: int, device: torch.device | None = None, generator: torch.Generator | None = None, shuffle: bool = True
) -> Tensor:
    """`num` uniform numbers in (0, 1), one in each of `num` equal intervals: (num,).

    They reduce the variance of the loss over the noise levels (Kingma et al. 2021, arXiv:2107.00630, appendix I.1).

    Args:
        num: how many.
        device: of the numbers.
        generator: of that device; None for torch's own.
        shuffle: in random order, instead of increasing.
    """
    order = torch.randperm(num, device=device, generator=generator) if shuffle else torch.arange(num, device=device)
    u = (order + torch.rand(num, device=device, generator=generator)) / num
    return u.clamp(1e-6, 1 - 1e-6)
