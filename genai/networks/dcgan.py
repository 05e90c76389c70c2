"""The convolutional pair of Radford et al. 2015 (arXiv:1511.06434), for 8, 16, 28, 32 or 64 pixels and any channels."""

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from genai.errors import UserError, check_at_least


def stages(size: int) -> tuple[int, int]:
    """Side of the smallest feature map (7 or 4) and the number of doublings from it to `size`.

    Raises:
        UserError: `size` is neither 7 nor 4 times a power of two.
    """
    for base in (4, 7):
        doublings = (size // base).bit_length() - 1
        if doublings > 0 and base * 2**doublings == size:
            return base, doublings
    raise UserError(
        f"DCGAN is for images of 8, 14, 16, 28, 32, 56, 64, ... pixels, not {size}: set the data's size to one of them"
    )


def initialise(module: nn.Module) -> None:
    """Weights from N(0, 0.02), as in the paper; batch-norm scales from N(1, 0.02)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


def convolution(narrow: int, wide: int, kernel: int, stride: int, batch_norm: bool, activation: nn.Module) -> list[nn.Module]:
    """A convolution, batch normalisation if `batch_norm`, and the activation."""
    norm = [nn.BatchNorm2d(wide)] if batch_norm else []
    return [nn.Conv2d(narrow, wide, kernel, stride, 1, bias=not batch_norm), *norm, activation]


def refinement(num: int, channels: int, batch_norm: bool, activation: nn.Module) -> list[nn.Module]:
    """`num` 3x3 convolutions on maps of one size."""
    return [layer for _ in range(num) for layer in convolution(channels, channels, 3, 1, batch_norm, activation)]


class DCGANGenerator(nn.Module):
    """latent (and condition) -> 4x4 or 7x7 map -> transposed convolutions, each doubling the side -> tanh image.

    Args:
        image_shape: (C, H, W) of the generated images, H = W.
        num_classes: width of the condition vector appended to the latent; 0 for none.
        latent_dim: length of the latent z.
        width: channels before the last layer; each earlier layer has twice as many.
        num_convolutions: 3x3 convolutions on the map of each size; small images need some, because 8 pixels are one doubling.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int = 0,
        latent_dim: int = 100,
        width: int = 64,
        num_convolutions: int = 0,
    ) -> None:
        super().__init__()
        check_at_least("latent_dim", latent_dim, 1)
        self.latent_dim = latent_dim
        self.base, doublings = stages(image_shape[1])
        channels = [width * 2**i for i in reversed(range(doublings))]
        self.first = nn.Linear(latent_dim + num_classes, channels[0] * self.base**2)
        widest = channels[0]
        layers = [nn.BatchNorm2d(widest), nn.ReLU(), *refinement(num_convolutions, widest, True, nn.ReLU())]
        for wide, narrow in pairwise(channels):
            layers += [nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False), nn.BatchNorm2d(narrow), nn.ReLU()]
            layers += refinement(num_convolutions, narrow, True, nn.ReLU())
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(channels[-1], image_shape[0], 4, 2, 1), nn.Tanh())
        self.apply(initialise)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """z (N, latent_dim), condition (N, num_classes) or None -> images (N, C, H, W) in [-1, 1]."""
        inputs = z if condition is None else torch.cat([z, condition], dim=1)
        images: Tensor = self.layers(self.first(inputs).unflatten(1, (-1, self.base, self.base)))
        return images


class DCGANDiscriminator(nn.Module):
    """image (and condition) -> strided convolutions, each halving the side -> one logit.

    Args:
        image_shape: (C, H, W) of the input images, H = W.
        num_classes: width of the condition vector, appended as constant planes; 0 for none.
        width: channels after the first layer; each later layer has twice as many.
        normalisation: `batch` as in the paper; `spectral` (Miyato et al. 2018, arXiv:1802.05957: every weight divided by its
            largest singular value) for the hinge loss; `none` for gradient penalties, which exclude batch statistics.
        num_convolutions: 3x3 convolutions on the map of each size (Miyato et al. use one, table 3 of their appendix).
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int = 0,
        width: int = 64,
        normalisation: Literal["batch", "spectral", "none"] = "batch",
        num_convolutions: int = 0,
    ) -> None:
        super().__init__()
        base, doublings = stages(image_shape[1])
        channels = [width * 2**i for i in range(doublings)]
        batch_norm, activation = normalisation == "batch", nn.LeakyReLU(0.2)
        layers: list[nn.Module] = [nn.Conv2d(image_shape[0] + num_classes, width, 4, 2, 1), activation]
        layers += refinement(num_convolutions, width, batch_norm, activation)
        for narrow, wide in pairwise(channels):
            layers += convolution(narrow, wide, 4, 2, batch_norm, activation)
            layers += refinement(num_convolutions, wide, batch_norm, activation)
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels[-1] * base**2, 1))
        self.apply(initialise)
        if normalisation == "spectral":
            for layer in self.layers:
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    spectral_norm(layer)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """x (N, C, H, W) in [-1, 1], condition (N, num_classes) or None -> logits (N,); positive means real."""
        if condition is not None:
            x = torch.cat([x, condition[:, :, None, None].expand(-1, -1, *x.shape[2:])], dim=1)
        logits: Tensor = self.layers(x).squeeze(1)
        return logits
