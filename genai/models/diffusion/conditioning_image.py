"""Conditioning images: the second image of a denoiser for super-resolution or inpainting. A new kind is one small class."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from genai.models.diffusion.editing import repeat_pixels


class ConditioningImage(ABC):
    """Makes the conditioning images of a training batch from the clean images."""

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] -> conditioning images (N, C + 1, H, W), see `with_known`."""


@dataclass(frozen=True)
class Downsampled(ConditioningImage):
    """The means over squares of pixels, for super-resolution (SR3, Saharia et al. 2021, arXiv:2104.07636).

    Args:
        factors: sides of the squares in pixels; one of them is sampled for each batch.
    """

    factors: tuple[int, ...] = (2, 4)

    def __call__(self, images: Tensor) -> Tensor:
        factor = self.factors[int(torch.randint(len(self.factors), ()))]
        return with_known(repeat_pixels(avg_pool2d(images, factor), factor), torch.ones_like(images[:, :1]))


@dataclass(frozen=True)
class Masked(ConditioningImage):
    """The image without a random rectangle, for inpainting (Palette, Saharia et al. 2021, arXiv:2111.05826).

    Args:
        smallest: shortest side of the rectangle, as a share of the image's side.
        largest: longest side of the rectangle, as a share of the image's side.
    """

    smallest: float = 0.25
    largest: float = 0.75

    def __call__(self, images: Tensor) -> Tensor:
        n, _, height, width = images.shape
        share = self.smallest + (self.largest - self.smallest) * torch.rand(n, 2, 1, 1, 1, device=images.device)
        corner = torch.rand(n, 2, 1, 1, 1, device=images.device) * (1 - share)
        y = (torch.arange(height, device=images.device)[:, None] + 0.5) / height
        x = (torch.arange(width, device=images.device)[None, :] + 0.5) / width
        inside_y = (y >= corner[:, 0]) & (y < corner[:, 0] + share[:, 0])  # (N, 1, H, 1)
        inside_x = (x >= corner[:, 1]) & (x < corner[:, 1] + share[:, 1])  # (N, 1, 1, W)
        known = (~(inside_y & inside_x)).to(images.dtype)  # (N, 1, H, W)
        return with_known(images * known, known)


def with_known(image: Tensor, known: Tensor) -> Tensor:
    """An image (N, C, H, W) and its known pixels, 0 or 1, (N, 1, H, W) -> conditioning image (N, C + 1, H, W)."""
    return torch.cat([image, known], dim=1)


def null_conditioning_image(images: Tensor) -> Tensor:
    """The conditioning images without a known pixel, for images like (N, C, H, W): (N, C + 1, H, W) of zeros."""
    return torch.zeros(len(images), images.shape[1] + 1, *images.shape[2:], device=images.device)
