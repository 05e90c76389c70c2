"""Base images: what a denoiser may be shown beside the noise. A new kind is one small class."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from genai.models.diffusion.editing import enlarge


class ConditioningImage(ABC):
    """Makes, in training, the base image of a batch from the images themselves."""

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] -> what the network sees, (N, C + 1, H, W): an image and where it is given, 0 or 1."""


@dataclass(frozen=True)
class Downsampled(ConditioningImage):
    """The image averaged over squares of pixels, for super-resolution (SR3, Saharia et al. 2021, arXiv:2104.07636).

    Args:
        factors: sides of the squares; one of them is chosen for each batch.
    """

    factors: tuple[int, ...] = (2, 4)

    def __call__(self, images: Tensor) -> Tensor:
        factor = self.factors[int(torch.randint(len(self.factors), ()))]
        return given(enlarge(avg_pool2d(images, factor), factor), torch.ones_like(images[:, :1]))


@dataclass(frozen=True)
class Masked(ConditioningImage):
    """The image without a random rectangle, for inpainting (Palette, Saharia et al. 2021, arXiv:2111.05826).

    Args:
        smallest: side of the rectangle, as a share of the image's.
        largest: the same.
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
        return given(images * known, known)


def given(image: Tensor, known: Tensor) -> Tensor:
    """An image (N, C, H, W) and where it is given (N, 1, H, W) -> (N, C + 1, H, W)."""
    return torch.cat([image, known], dim=1)
