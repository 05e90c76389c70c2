"""Augmentation of a whole batch at once, on the device the batch is on."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Padding = Literal["black", "border"]


@dataclass(frozen=True)
class Augment:
    """Random flips and similarity transforms, drawn independently for each image; all off by default.

    Args:
        flip: mirror left and right, with probability 1/2.
        rotate: degrees; the angle is uniform in [-rotate, rotate].
        scale: fraction; the magnification is uniform in [1 - scale, 1 + scale].
        translate: fraction of the side; each shift is uniform in [-translate, translate].
    """

    flip: bool = False
    rotate: float = 0.0
    scale: float = 0.0
    translate: float = 0.0

    @property
    def is_on(self) -> bool:
        """Whether any transform is on."""
        return self.flip or self.warps

    @property
    def warps(self) -> bool:
        """Whether any transform that resamples pixels is on."""
        return any((self.rotate, self.scale, self.translate))

    def __call__(self, images: Tensor, generator: torch.Generator, padding: Padding = "black") -> Tensor:
        """Augment (N, C, H, W) float32 in [-1, 1]; the range is kept.

        Randomness comes from a generator on the CPU, so the same seed draws the same transforms on every device.
        Outside the picture is -1 ("black": right for digits) or the nearest pixel ("border": right for photographs).
        """
        draws = torch.rand(5, len(images), generator=generator).to(images.device)
        if self.flip:
            images = torch.where((draws[0] < 0.5)[:, None, None, None], images.flip(-1), images)
        return warp(images, self.maps(2 * draws[1:] - 1), padding) if self.warps else images

    def maps(self, uniform: Tensor) -> Tensor:
        """Uniform (4, N) in [-1, 1] -> (N, 2, 3) maps from output to input coordinates, both in [-1, 1]."""
        angle = uniform[0] * math.radians(self.rotate)
        zoom = 1 / (1 + uniform[1] * self.scale)
        shift = uniform[2:] * 2 * self.translate  # the side is 2 long in these coordinates
        cos, sin = zoom * angle.cos(), zoom * angle.sin()
        return torch.stack([cos, -sin, shift[0], sin, cos, shift[1]], dim=1).view(-1, 2, 3)


def warp(images: Tensor, matrices: Tensor, padding: Padding) -> Tensor:
    """Resample (N, C, H, W) in [-1, 1] bilinearly by (N, 2, 3) maps from output to input coordinates (x right, y down).

    Always in float32, also under autocast: bfloat16 coordinates would be off by a third of a pixel at 64 x 64.
    """
    with torch.autocast(images.device.type, enabled=False):
        grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
        if padding == "border":
            return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
        return F.grid_sample(images + 1, grid, padding_mode="zeros", align_corners=False) - 1
