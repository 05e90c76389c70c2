"""Augmentation inside the game: what the discriminator sees, real or generated, is changed in ways that leave the gradient.

Zhao et al. 2020 (DiffAugment, arXiv:2006.10738) with a probability for each image, and the controller of that probability of
Karras et al. 2020 (ADA, arXiv:2006.06676).
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from genai.errors import UserError

Operation = Literal["colour", "translation", "cutout"]


class DiffAugment(nn.Module):
    """Random differentiable changes, each applied to an image with probability p.

    Args:
        operations: any of colour (brightness by +-0.5, saturation 0 to 2, contrast 0.5 to 1.5), translation (by up to an
            eighth of the side, background moving in) and cutout (a square of half the side set to mid grey).
        p: probability of each operation, 0 to 1; 0 leaves the images as they are. The start value where it adapts.
        target: with a target, p moves so that r_t (see `adapt`) stays there; ADA uses 0.6. None keeps p.
        adapt_kimg: thousands of images in which p can move from 0 to 1 (ADA: 500).

    Raises:
        UserError: `p` is no probability, or `target` is nothing that r_t can exceed.
    """

    p: Tensor

    def __init__(
        self,
        operations: Sequence[Operation] = ("colour", "translation", "cutout"),
        p: float = 1.0,
        target: float | None = None,
        adapt_kimg: float = 500.0,
    ) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise UserError(f"an augmentation's p of {p} is no probability: use 0 to 1")
        if target is not None and target >= 1:
            raise UserError(f"an augmentation's target of {target} is never exceeded: use less than 1, such as 0.6")
        self.operations = tuple(operations)
        self.target = target
        self.adapt_kimg = adapt_kimg
        self.register_buffer("p", torch.tensor(float(p)))

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] -> changed ones, differentiable with respect to the images."""
        for operation in self.operations:
            chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < self.p
            images = torch.where(chosen, OPERATIONS[operation](images), images)
        return images

    @torch.no_grad()
    def adapt(self, real_logits: Tensor, fake_logits: Tensor, images: int) -> None:
        """Move p after `images` more images: up while the discriminator tells real from generated too well.

        r_t = E[sign(D(x) - D(G(z)))] over pairs. ADA's is E[sign(D(x))]; the difference serves objectives too whose D has no
        zero of its own (Wasserstein, relativistic).
        """
        if self.target is None:
            return
        r_t = (real_logits - fake_logits).sign().mean()
        self.p += (r_t - self.target).sign() * images / (1000 * self.adapt_kimg)
        self.p.clamp_(0, 1)


def colour(x: Tensor) -> Tensor:
    """Brightness, saturation and contrast of each image."""
    brightness, saturation, contrast = torch.rand(3, len(x), 1, 1, 1, device=x.device)
    x = x + (brightness - 0.5)
    mean = x.mean(dim=1, keepdim=True)
    x = (x - mean) * (2 * saturation) + mean
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return (x - mean) * (contrast + 0.5) + mean


def translation(x: Tensor) -> Tensor:
    """Each image moved by whole pixels, up to an eighth of its side; -1 (black) moves in."""
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
