"""Encoders and decoders of latent variable models: multilayer perceptrons and convolutional networks.

They have no normalisation layers. The condition is concatenated with the latent (decoder) or with the features (encoder).
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, silu

from genai.networks.resnet import base_size


class MLPEncoder(nn.Module):
    """A multilayer perceptron: image and condition -> mean and log-variance.

    Args:
        image_shape: (C, H, W) of the images.
        num_classes: width of the condition vector; 0 for none.
        latent_dim: D, length of the latent.
        hidden: widths of the hidden layers.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        latent_dim: int,
        hidden: Sequence[int] = (512, 256),
    ) -> None:
        super().__init__()
        self.layers = mlp([math.prod(image_shape) + num_classes, *hidden, 2 * latent_dim])

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """x (N, C, H, W) in [-1, 1], condition (N, num_classes) or None -> mean and log-variance (N, 2 D)."""
        return self.layers(concatenated(x.flatten(1), condition))  # type: ignore[no-any-return]


class MLPDecoder(nn.Module):
    """A multilayer perceptron: latent and condition -> parameters of the likelihood.

    Args:
        output_shape: (P, H, W) of the parameters.
        num_classes: width of the condition vector; 0 for none.
        latent_dim: D, length of the latent.
        hidden: widths of the hidden layers.
    """

    def __init__(
        self,
        output_shape: tuple[int, int, int],
        num_classes: int,
        latent_dim: int,
        hidden: Sequence[int] = (256, 512),
    ) -> None:
        super().__init__()
        self.output_shape = tuple(output_shape)
        self.layers = mlp([latent_dim + num_classes, *hidden, math.prod(output_shape)])

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """z (N, D), condition (N, num_classes) or None -> (N, P, H, W)."""
        return self.layers(concatenated(z, condition)).unflatten(1, self.output_shape)  # type: ignore[no-any-return]


class ConvEncoder(nn.Module):
    """Strided convolutions with residual blocks: image and condition -> mean and log-variance.

    Args:
        image_shape: (C, H, W) of the images, H = W.
        num_classes: width of the condition vector; 0 for none.
        latent_dim: D, length of the latent.
        channels: of each resolution, from fine to coarse.
        num_blocks: residual blocks of each resolution; 0 for a plain convolutional network.
        patch_size: stride of the first convolution.
        hidden: width of the layer between the coarsest features and the latent.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        latent_dim: int,
        channels: Sequence[int] = (32, 64),
        num_blocks: int = 0,
        patch_size: int = 2,
        hidden: int = 256,
    ) -> None:
        super().__init__()
        base = base_size(image_shape[1], patch_size, len(channels))
        layers: list[nn.Module] = [nn.Conv2d(image_shape[0], channels[0], 2 * patch_size + 1, patch_size, patch_size)]
        layers += blocks(channels[0], num_blocks)
        for fine, coarse in pairwise(channels):
            layers += [nn.SiLU(), nn.Conv2d(fine, coarse, 3, 2, 1), *blocks(coarse, num_blocks)]
        self.maps = nn.Sequential(*layers, nn.SiLU())
        self.head = mlp([channels[-1] * base**2 + num_classes, hidden, 2 * latent_dim])
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """x (N, C, H, W) in [-1, 1], condition (N, num_classes) or None -> mean and log-variance (N, 2 D)."""
        maps = self.maps(x.contiguous(memory_format=torch.channels_last))
        return self.head(concatenated(maps.flatten(1), condition))  # type: ignore[no-any-return]


class ConvDecoder(nn.Module):
    """Transposed convolutions with residual blocks: latent and condition -> parameters of the likelihood.

    Args:
        output_shape: (P, H, W) of the parameters, H = W.
        num_classes: width of the condition vector; 0 for none.
        latent_dim: D, length of the latent.
        channels: of each resolution, from coarse to fine.
        num_blocks: residual blocks of each resolution; 0 for a plain convolutional network.
        patch_size: side in pixels of the patch that one position of the finest resolution covers.
        hidden: width of the layer between the latent and the coarsest features.
    """

    def __init__(
        self,
        output_shape: tuple[int, int, int],
        num_classes: int,
        latent_dim: int,
        channels: Sequence[int] = (64, 32),
        num_blocks: int = 0,
        patch_size: int = 2,
        hidden: int = 256,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.base = base_size(output_shape[1], patch_size, len(channels))
        self.head = mlp([latent_dim + num_classes, hidden, channels[0] * self.base**2])
        layers = blocks(channels[0], num_blocks)
        for coarse, fine in pairwise(channels):
            layers += [nn.SiLU(), nn.ConvTranspose2d(coarse, fine, 4, 2, 1), *blocks(fine, num_blocks)]
        last = nn.Conv2d(channels[-1], output_shape[0] * patch_size**2, 3, padding=1)
        self.maps = nn.Sequential(*layers, nn.SiLU(), last)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """z (N, D), condition (N, num_classes) or None -> (N, P, H, W)."""
        smallest = self.head(concatenated(z, condition)).unflatten(1, (-1, self.base, self.base))
        maps = self.maps(smallest.contiguous(memory_format=torch.channels_last))
        return pixel_shuffle(maps, self.patch_size)


class AutoencoderBlock(nn.Module):
    """x + conv(silu(conv(silu(x)))); the last convolution is initialised with zeros."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, channels, H, W) -> the same."""
        return x + self.conv2(silu(self.conv1(silu(x))))  # type: ignore[no-any-return]


def blocks(channels: int, num: int) -> list[nn.Module]:
    """`num` residual blocks."""
    return [AutoencoderBlock(channels) for _ in range(num)]


def mlp(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers with SiLU between them."""
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        layers += [nn.Linear(width_in, width_out), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


def concatenated(x: Tensor, condition: Tensor | None) -> Tensor:
    """(N, W), and (N, num_classes) or None -> (N, W + num_classes)."""
    return x if condition is None else torch.cat([x, condition], dim=1)
