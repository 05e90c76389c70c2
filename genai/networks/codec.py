"""Convolutional encoder and decoder of a grid of vectors: a picture of 28 pixels as 7x7 of them.

The image enters and leaves in squares of pixels and most blocks stand at the coarsest resolution, which is what makes the
pair fast on processors and small GPUs.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle, silu

from genai.networks.unet import check_sides, norm, zeroed


class Block(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x))))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = norm(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = norm(channels)
        self.conv2 = zeroed(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """x (N, channels, H, W) -> the same."""
        return x + self.conv2(silu(self.norm2(self.conv1(silu(self.norm1(x))))))  # type: ignore[no-any-return]


class ConvEncoder(nn.Module):
    """Images -> a grid of vectors, of side H / (patch_size * 2^(len(channels) - 1)).

    Args:
        image_shape: (C, H, W) of the images, H = W.
        dim: length of a vector.
        channels: of each resolution, the finest first.
        num_blocks: residual blocks of each resolution, the finest first.
        patch_size: side of the squares of pixels that are one position of the finest map.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        dim: int,
        channels: Sequence[int] = (32, 96),
        num_blocks: Sequence[int] = (1, 2),
        patch_size: int = 2,
    ) -> None:
        super().__init__()
        check_sides(image_shape[1], patch_size, len(channels))
        self.patch_size = patch_size
        layers: list[nn.Module] = [nn.Conv2d(image_shape[0] * patch_size**2, channels[0], 3, padding=1)]
        layers += [Block(channels[0]) for _ in range(num_blocks[0])]
        for (fine, coarse), num in zip(pairwise(channels), num_blocks[1:], strict=True):
            layers += [nn.Conv2d(fine, coarse, 4, 2, 1), *(Block(coarse) for _ in range(num))]
        self.layers = nn.Sequential(*layers, norm(channels[-1]), nn.SiLU(), nn.Conv2d(channels[-1], dim, 1))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, H, W) in [-1, 1] -> (N, dim, h, w)."""
        patches = pixel_unshuffle(x, self.patch_size).contiguous(memory_format=torch.channels_last)
        return self.layers(patches)  # type: ignore[no-any-return]


class ConvDecoder(nn.Module):
    """A grid of vectors -> images: the mirror of `ConvEncoder`, whose arguments it takes."""

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        dim: int,
        channels: Sequence[int] = (32, 96),
        num_blocks: Sequence[int] = (1, 2),
        patch_size: int = 2,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        layers: list[nn.Module] = [nn.Conv2d(dim, channels[-1], 3, padding=1)]
        layers += [Block(channels[-1]) for _ in range(num_blocks[-1])]
        coarse_first = list(zip(pairwise(channels), num_blocks[:-1], strict=True))[::-1]
        for (fine, coarse), num in coarse_first:
            layers += [nn.Conv2d(coarse, 4 * fine, 3, padding=1), nn.PixelShuffle(2), *(Block(fine) for _ in range(num))]
        self.layers = nn.Sequential(*layers, norm(channels[0]), nn.SiLU())
        self.last = nn.Conv2d(channels[0], image_shape[0] * patch_size**2, 3, padding=1)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, z: Tensor) -> Tensor:
        """z (N, dim, h, w) -> (N, C, H, W), not limited to [-1, 1]."""
        x = self.layers(z.contiguous(memory_format=torch.channels_last))
        return pixel_shuffle(self.last(x), self.patch_size)
