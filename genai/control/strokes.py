"""Measures of a stroke of light ink on a dark ground, from the pixels alone: its thickness and its slant."""

from collections.abc import Callable

import torch
from torch import Tensor

STROKES = ("thick", "slanted")


def thickness(images: Tensor) -> Tensor:
    """Width of the stroke in pixels (N,): twice the area of the ink divided by its perimeter, from uint8 (N, 1, H, W).

    The perimeter is the total variation of the image. A bar of width w and length L has area wL and perimeter 2 (w + L).
    """
    ink = torch.nn.functional.pad(images.float() / 255, (1, 1, 1, 1))
    d_x, d_y = ink.diff(dim=3)[:, :, :-1], ink.diff(dim=2)[:, :, :, :-1]
    perimeter = (d_x.square() + d_y.square()).sqrt().sum(dim=(1, 2, 3))
    return 2 * ink.sum(dim=(1, 2, 3)) / perimeter.clamp(min=1e-6)


def slant(images: Tensor) -> Tensor:
    """Slant to the right in pixels for each pixel upwards (N,): mu_11 / mu_02 of the ink, from uint8 (N, 1, H, W)."""
    ink = images[:, 0].double() / 255
    mass = ink.sum(dim=(1, 2)).clamp(min=1e-6)[:, None, None]
    y = -torch.arange(ink.shape[1], dtype=ink.dtype)[:, None]  # upwards
    x = torch.arange(ink.shape[2], dtype=ink.dtype)[None, :]
    y = y - (ink * y).sum(dim=(1, 2), keepdim=True) / mass
    x = x - (ink * x).sum(dim=(1, 2), keepdim=True) / mass
    mu_11, mu_02 = (ink * x * y).sum(dim=(1, 2)), (ink * y.square()).sum(dim=(1, 2))
    return (mu_11 / mu_02.clamp(min=1e-6)).float()


def stroke_scores(reference: Tensor) -> Callable[[Tensor], Tensor]:
    """A function from uint8 images (N, 1, H, W) to (N, 2): thickness and slant, in standard deviations above the median.

    Args:
        reference: uint8 images (M, 1, H, W) that give the medians and standard deviations.
    """

    def measures(images: Tensor) -> Tensor:
        return torch.stack([thickness(images), slant(images)], dim=1)

    values = measures(reference)
    middle, std = values.median(dim=0).values, values.std(dim=0).clamp(min=1e-6)
    return lambda images: (measures(images) - middle) / std
