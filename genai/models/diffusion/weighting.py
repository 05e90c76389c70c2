"""How much the squared error of a denoised image counts at each noise level. A new weighting is one small class."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from genai.models.diffusion.preconditioning import Scales


class Weighting(ABC):
    """The weight lambda(sigma)."""

    @abstractmethod
    def __call__(self, sigma: Tensor, scales: Scales) -> Tensor:
        """Noise levels (N,) and what the preconditioning makes of them -> weights (N,)."""


@dataclass(frozen=True)
class NetworkOutput(Weighting):
    """1 / c_out^2: the network's own output counts the same everywhere (EDM, section 5; for a flow, the velocity's error)."""

    def __call__(self, sigma: Tensor, scales: Scales) -> Tensor:
        return scales.c_out**-2


@dataclass(frozen=True)
class VelocityError(Weighting):
    """(1 + sigma)^2 / sigma^2: the error of rectified flow's v, whatever the network predicts (for x-prediction: JiT, Li & He
    2025, arXiv:2511.13720).

    Args:
        sigma_min: the weight grows no further below this level.
    """

    sigma_min: float = 0.05

    def __call__(self, sigma: Tensor, scales: Scales) -> Tensor:
        return (1 + 1 / sigma.clamp(min=self.sigma_min)) ** 2


@dataclass(frozen=True)
class MinSNR(Weighting):
    """min(1 / sigma^2, gamma) (Hang et al. 2023, arXiv:2303.09556).

    Args:
        gamma: the most an error counts.
    """

    gamma: float = 5.0

    def __call__(self, sigma: Tensor, scales: Scales) -> Tensor:
        return (sigma**-2).clamp(max=self.gamma)
