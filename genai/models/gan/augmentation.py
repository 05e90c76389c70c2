"""Differentiable augmentation of all images that the discriminator sees in training, and adaptive control of its probability.

Zhao et al. 2020 (DiffAugment, arXiv:2006.10738) with a probability for each image, and the controller of that probability of
Karras et al. 2020 (ADA, arXiv:2006.06676).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from genai.errors import UserError

if TYPE_CHECKING:
    from genai.models.gan.gan import GAN

ADAPT_EVERY_N_BATCHES = 4  # as ADA
Operation = Literal["colour", "translation", "cutout"]


class DiffAugment(nn.Module):
    """Random differentiable operations, each applied to an image with probability p.

    Args:
        operations: any of colour (brightness by +-0.5, saturation 0 to 2, contrast 0.5 to 1.5), translation (by up to an
            eighth of the side, black moving in) and cutout (a square of half the side set to mid grey).
        p: probability of each operation, 0 to 1; 0 leaves the images unchanged. The initial value under `AugmentationControl`.

    Raises:
        UserError: `p` is not between 0 and 1.
    """

    p: Tensor

    def __init__(self, operations: Sequence[Operation] = ("colour", "translation", "cutout"), p: float = 1.0) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise UserError(f"augmentation.p {p} is out of range: use 0 to 1")
        self.operations = tuple(operations)
        self.register_buffer("p", torch.tensor(float(p)))

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] -> augmented images, differentiable with respect to the input."""
        for operation in self.operations:
            chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < self.p
            images = torch.where(chosen, OPERATIONS[operation](images), images)
        return images


@dataclass(frozen=True)
class AugmentationControl:
    """Adaptive discriminator augmentation: keeps the overfitting measure r_t at a target by moving p.

    r_t = E[sign(D(x) - D(G(z)))] over pairs. ADA uses E[sign(D(x))]; the difference also suits objectives whose D has no
    absolute zero (Wasserstein, relativistic).

    Args:
        target: of r_t; p rises while r_t is larger. ADA uses 0.6.
        adapt_kimg: thousands of images in which p can move from 0 to 1. ADA uses 500.

    Raises:
        UserError: `target` is not less than 1, which r_t never exceeds.
    """

    target: float = 0.6
    adapt_kimg: float = 500.0

    def __post_init__(self) -> None:
        if self.target >= 1:
            raise UserError(f"augmentation_control.target {self.target} is out of range: use less than 1, such as 0.6")

    @torch.no_grad()
    def update(self, augmentation: DiffAugment, real_logits: Tensor, fake_logits: Tensor, num_images: int) -> None:
        """Move p up if r_t of logits (N,) of real and generated images exceeds the target, else down.

        Args:
            augmentation: its p moves.
            num_images: images seen since the last update, on all devices.
        """
        r_t = (real_logits - fake_logits).sign().mean()
        augmentation.p += (r_t - self.target).sign() * num_images / (1000 * self.adapt_kimg)
        augmentation.p.clamp_(0, 1)

    @torch.no_grad()
    def adapt(self, model: GAN, real: Tensor, fake: Tensor, condition: Tensor | None) -> None:
        """Update the p of `model` from a batch of real and generated images (N, C, H, W) on each device."""
        assert model.augmentation is not None
        logits = [augmented_logits(model.discriminator, model.augmentation, images, condition) for images in (real, fake)]
        real_logits, fake_logits = (model.all_gather(part).flatten() for part in logits)  # type: ignore[union-attr]
        self.update(model.augmentation, real_logits, fake_logits, len(real_logits) * ADAPT_EVERY_N_BATCHES)


def augmented_logits(
    discriminator: nn.Module, augmentation: DiffAugment | None, images: Tensor, condition: Tensor | None
) -> Tensor:
    """The discriminator's logits (N,) of augmented images, in float32 under autocast too."""
    logits: Tensor = discriminator(images if augmentation is None else augmentation(images), condition)
    return logits.float()


def colour(x: Tensor) -> Tensor:
    """Brightness, saturation and contrast of each image."""
    brightness, saturation, contrast = torch.rand(3, len(x), 1, 1, 1, device=x.device)
    x = x + (brightness - 0.5)
    mean = x.mean(dim=1, keepdim=True)
    x = (x - mean) * (2 * saturation) + mean
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return (x - mean) * (contrast + 0.5) + mean


def translation(x: Tensor) -> Tensor:
    """Each image shifted by whole pixels, up to an eighth of its side; -1 (black) moves in."""
    n, _, height, width = x.shape
    reach = (height + 4) // 8
    shift = torch.randint(-reach, reach + 1, (2, n, 1, 1), device=x.device)
    rows = torch.arange(height, device=x.device)[:, None] + shift[0]  # (N, H, 1)
    columns = torch.arange(width, device=x.device)[None] + shift[1]  # (N, 1, W)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    index = torch.arange(n, device=x.device)[:, None, None]
    moved = x.permute(0, 2, 3, 1)[index, rows.clamp(0, height - 1), columns.clamp(0, width - 1)]  # (N, H, W, C)
    return torch.where(inside[:, None], moved.permute(0, 3, 1, 2), -1.0)


def cutout(x: Tensor) -> Tensor:
    """A square of half the side set to 0, its centre anywhere in the image."""
    n, _, height, width = x.shape
    centre = torch.rand(2, n, 1, 1, device=x.device)
    rows = (torch.arange(height, device=x.device)[:, None] - centre[0] * height).abs() < height / 4
    columns = (torch.arange(width, device=x.device)[None] - centre[1] * width).abs() < width / 4
    return torch.where((rows & columns)[:, None], 0.0, x)


OPERATIONS: dict[str, Callable[[Tensor], Tensor]] = {"colour": colour, "translation": translation, "cutout": cutout}
