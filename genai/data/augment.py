"""Augmentation of a whole batch at once, on the batch's device."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Padding = Literal["black", "border"]


@dataclass(frozen=True)
class Augment:
    """Random horizontal flips and similarity transforms, independent for each image; all off by default.

    torchvision's RandomAffine transforms a whole batch alike; here each image has its own transform.

    Args:
        flip: flip left and right with probability 1/2.
        rotate: degrees; the angle is uniform in [-rotate, rotate].
        scale: fraction; the magnification is uniform in [1 - scale, 1 + scale].
        translate: fraction of the side; each shift is uniform in [-translate, translate].
    """

    flip: bool = False
    rotate: float = 0.0
    scale: float = 0.0
    translate: float = 0.0

    @property
    def enabled(self) -> bool:
        """Whether any transform is on."""
        return self.flip or self.is_affine

    @property
    def is_affine(self) -> bool:
        """Whether any transform that resamples pixels is on."""
        return any((self.rotate, self.scale, self.translate))

    def __call__(self, images: Tensor, generator: torch.Generator, padding: Padding = "black") -> Tensor:
        """Augment (N, C, H, W) float32 in [-1, 1]; the range is kept.

        Args:
            images: the batch.
            generator: on the CPU, so that a seed gives the same transforms on every device.
            padding: outside of the image is -1 (`black`, right for digits) or the nearest pixel (`border`, for photographs).
        """
        uniform = torch.rand(5, len(images), generator=generator).to(images.device)
        if self.flip:
            images = torch.where((uniform[0] < 0.5)[:, None, None, None], images.flip(-1), images)
        return warp(images, self.inverse_affine(2 * uniform[1:] - 1), padding) if self.is_affine else images

    def inverse_affine(self, uniform: Tensor) -> Tensor:
        """Uniform (4, N) in [-1, 1] -> (N, 2, 3) affine maps from output to input coordinates, both in [-1, 1]."""
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
