"""Priors p(z). To add one, subclass `Prior`."""

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from genai.models.base import Shape
from genai.models.vae.gaussian import LatentDistribution, Mixture, Normal, StandardNormalLatents

Encode = Callable[[Tensor, Tensor | None], Normal]


class Prior(nn.Module):
    """A prior of latents; its constructor takes (image_shape, num_classes, latent_dim)."""

    @abstractmethod
    def forward(self, encode: Encode) -> LatentDistribution:
        """p(z). `encode` maps images in [-1, 1] and condition vectors (or None) to q(z|x)."""


class StandardNormal(Prior):
    """N(0, I).

    Args:
        image_shape: (C, H, W) of the images.
        num_classes: width of the condition vector; 0 for none.
        latent_dim: D.
    """

    def __init__(self, image_shape: Shape, num_classes: int, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim

    def forward(self, encode: Encode) -> LatentDistribution:
        return StandardNormalLatents(self.latent_dim)


class VampPrior(Prior):
    """Mixture of the posteriors of learned pseudo-inputs (Tomczak & Welling 2018, arXiv:1705.07120, equation 9).

    In a conditional model each pseudo-input has a learned condition vector.

    Args:
        image_shape: (C, H, W) of the images.
        num_classes: width of the condition vector; 0 for none.
        latent_dim: D.
        num_pseudo_inputs: M, number of components. Each training step encodes all of them.
    """

    def __init__(self, image_shape: Shape, num_classes: int, latent_dim: int, num_pseudo_inputs: int = 200) -> None:
        super().__init__()
        self.images = nn.Parameter(0.5 * torch.randn(num_pseudo_inputs, *image_shape) - 1)  # mostly background after tanh
        self.conditions = nn.Parameter(0.1 * torch.randn(num_pseudo_inputs, num_classes)) if num_classes else None

    def forward(self, encode: Encode) -> LatentDistribution:
        return Mixture(encode(self.images.tanh(), self.conditions))
