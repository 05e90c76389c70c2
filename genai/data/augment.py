"""Batched augmentation on the device."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample


@dataclass(frozen=True)
class Augment:
    """Random flips and affine maps of a batch; every option is off by default.

    Attributes:
        flip: mirror left and right with probability 1/2 (not for digits).
        rotate: degrees, uniform in [-rotate, rotate].
        scale: relative, uniform in [1 - scale, 1 + scale].
        translate: share of the width and height, uniform in [-translate, translate].
    """

    flip: bool = False
    rotate: float = 0.0
    scale: float = 0.0
    translate: float = 0.0

    @property
    def is_off(self) -> bool:
        return not (self.flip or self.rotate or self.scale or self.translate)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Images (N, C, H, W) float in [-1, 1] -> the same, each moved by a draw of its own from `generator` (on the CPU)."""
        if self.is_off:
            return images
        theta = self.draw(len(images), generator).to(images.device)
        with torch.autocast(images.device.type, enabled=False):
            grid = affine_grid(theta, list(images.shape), align_corners=False)
            # -1, the background of digits, is 0 once shifted by one: grid_sample pads with zeros
            return grid_sample(images + 1, grid, align_corners=False) - 1

    def draw(self, num: int, generator: torch.Generator) -> Tensor:
        """Affine maps (num, 2, 3) from output to input coordinates."""
        angle, zoom, right, down, mirror = torch.rand(5, num, generator=generator) * 2 - 1
        radians = torch.deg2rad(angle * self.rotate)
        zoom = 1 + zoom * self.scale
        sign = torch.where(mirror > 0, -1.0, 1.0) if self.flip else torch.ones(num)
        cos, sin = torch.cos(radians) / zoom, torch.sin(radians) / zoom
        rows = [sign * cos, sin, 2 * right * self.translate, -sign * sin, cos, 2 * down * self.translate]
        return torch.stack(rows, dim=1).view(num, 2, 3)
