"""Multilayer perceptrons for a GAN (after Goodfellow et al. 2014, arXiv:1406.2661)."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from genai.errors import check_at_least


class MLPGenerator(nn.Module):
    """latent (and condition) -> hidden leaky-ReLU layers -> tanh image.

    Args:
        image_shape: (C, H, W) of the generated images.
        num_classes: width of the condition vector appended to the latent; 0 for none.
        latent_dim: length of the latent z.
        hidden: widths of the hidden layers.
        negative_slope: slope of the leaky ReLUs below zero.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int = 0,
        latent_dim: int = 10,
        hidden: Sequence[int] = (256, 512, 1024),
        negative_slope: float = 0.2,
    ) -> None:
        super().__init__()
        self.image_shape = tuple(image_shape)
        check_at_least("latent_dim", latent_dim, 1)
        self.latent_dim = latent_dim
        widths = [latent_dim + num_classes, *hidden]
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise(widths):
            layers += [nn.Linear(width_in, width_out), nn.LeakyReLU(negative_slope)]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], math.prod(image_shape)), nn.Tanh())

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """z (N, latent_dim), condition (N, num_classes) or None -> images (N, C, H, W) in [-1, 1]."""
        inputs = z if condition is None else torch.cat([z, condition], dim=1)
        images: Tensor = self.layers(inputs).unflatten(1, self.image_shape)
        return images


class MLPDiscriminator(nn.Module):
    """image (and condition) -> hidden leaky-ReLU layers with dropout -> one logit.

    Args:
        image_shape: (C, H, W) of the input images.
        num_classes: width of the condition vector appended to the pixels; 0 for none.
        hidden: widths of the hidden layers.
        negative_slope: slope of the leaky ReLUs below zero.
        dropout: share of hidden units dropped in training, in [0, 1).
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int = 0,
        hidden: Sequence[int] = (1024, 512, 256),
        negative_slope: float = 0.2,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        widths = [math.prod(image_shape) + num_classes, *hidden]
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise(widths):
            layers += [nn.Linear(width_in, width_out), nn.LeakyReLU(negative_slope), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], 1))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """x (N, C, H, W) in [-1, 1], condition (N, num_classes) or None -> logits (N,); positive means real."""
        inputs = x.flatten(1) if condition is None else torch.cat([x.flatten(1), condition], dim=1)
        logits: Tensor = self.layers(inputs).squeeze(1)
        return logits
