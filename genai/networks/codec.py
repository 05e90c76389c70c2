"""Convolutional encoder and decoder between images and grids of vectors, for example 28x28 pixels and 7x7 vectors.

Input and output are patches of pixels, and most blocks work at the coarsest resolution; this is fast on CPUs and small GPUs.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle, silu

from genai.networks.unet import check_sides, norm, zeroed


class CodecBlock(nn.Module):
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


class GridEncoder(nn.Module):
    """Images -> a grid of vectors; the side of the grid is H / (patch_size * 2^(len(channels) - 1)).

    Args:
        image_shape: (C, H, W) of the images, H = W.
        dim: length of a vector.
        channels: of each resolution, from fine to coarse.
        num_blocks: residual blocks of each resolution, from fine to coarse.
        patch_size: side in pixels of the patch that one position of the finest resolution covers.
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
        layers += [CodecBlock(channels[0]) for _ in range(num_blocks[0])]
        for (fine, coarse), num in zip(pairwise(channels), num_blocks[1:], strict=True):
            layers += [nn.Conv2d(fine, coarse, 4, 2, 1), *(CodecBlock(coarse) for _ in range(num))]
        self.layers = nn.Sequential(*layers, norm(channels[-1]), nn.SiLU(), nn.Conv2d(channels[-1], dim, 1))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, H, W) in [-1, 1] -> (N, dim, h, w)."""
        patches = pixel_unshuffle(x, self.patch_size).contiguous(memory_format=torch.channels_last)
        return self.layers(patches)  # type: ignore[no-any-return]


class GridDecoder(nn.Module):
    """A grid of vectors -> images. It mirrors `GridEncoder` and takes the same arguments."""

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
        layers += [CodecBlock(channels[-1]) for _ in range(num_blocks[-1])]
        coarse_first = list(zip(pairwise(channels), num_blocks[:-1], strict=True))[::-1]
        for (fine, coarse), num in coarse_first:
            layers += [nn.Conv2d(coarse, 4 * fine, 3, padding=1), nn.PixelShuffle(2), *(CodecBlock(fine) for _ in range(num))]
        self.layers = nn.Sequential(*layers, norm(channels[0]), nn.SiLU())
        self.last = nn.Conv2d(channels[0], image_shape[0] * patch_size**2, 3, padding=1)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, z: Tensor) -> Tensor:
        """z (N, dim, h, w) -> (N, C, H, W), unbounded."""
        x = self.layers(z.contiguous(memory_format=torch.channels_last))
        return pixel_shuffle(self.last(x), self.patch_size)
