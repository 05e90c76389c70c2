"""Which pixels a score depends on, by erasing them, and whether an explanation is faithful."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

Score = Callable[[Tensor], Tensor]  # images (N, C, H, W) in [-1, 1] -> (N,)


class Faithfulness(NamedTuple):
    """How much a score falls, (N,) each, if the most important pixels of an image are erased, and if random ones are."""

    important: Tensor
    random: Tensor


def erased(images: Tensor, mask: Tensor, fill: Tensor) -> Tensor:
    """Images (N, C, H, W) with the pixels of `fill` (C, H, W) where `mask` (N, 1, H, W) is true."""
    return torch.where(mask, fill.to(images), images)


@torch.no_grad()
def occlusion_maps(score: Score, images: Tensor, fill: Tensor, patch: int) -> Tensor:
    """How much the score of each image falls if a square of pixels is erased (Zeiler & Fergus 2014, arXiv:1311.2901).

    Args:
        score: to be explained.
        images: (N, C, H, W) in [-1, 1].
        fill: what erased pixels become, (C, H, W).
        patch: side of the square.

    Returns:
        (N, H, W), constant within each square; positive where the pixels support the score.
    """
    height, width = images.shape[2:]
    before = score(images)
    rows, columns = -(-height // patch), -(-width // patch)
    maps = torch.zeros(len(images), rows, columns)
    for row in range(rows):
        for column in range(columns):
            mask = torch.zeros(1, 1, height, width, dtype=torch.bool)
            mask[:, :, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch] = True
            maps[:, row, column] = (before - score(erased(images, mask, fill))).cpu()
    return interpolate(maps[:, None], scale_factor=float(patch), mode="nearest")[:, 0, :height, :width]


@torch.no_grad()
def faithfulness(score: Score, images: Tensor, maps: Tensor, fill: Tensor, share: float, patch: int) -> Faithfulness:
    """Erase a share of the squares of each image, those with the largest values of its map (N, H, W), or random ones."""
    cells = maps[:, ::patch, ::patch].flatten(1)  # one value of each square
    num = max(1, round(share * cells.shape[1]))
    before = score(images)
    random = torch.rand(cells.shape, generator=torch.Generator().manual_seed(0))
    drops = []
    for values in (cells, random):
        chosen = torch.zeros_like(cells).scatter_(1, values.topk(num, dim=1).indices, 1.0)
        grid = chosen.view(len(maps), *maps[:, ::patch, ::patch].shape[1:])
        mask = interpolate(grid[:, None], scale_factor=float(patch), mode="nearest")[:, :, : maps.shape[1], : maps.shape[2]]
        drops.append((before - score(erased(images, mask > 0, fill))).cpu())
    return Faithfulness(*drops)


def log_odds(p: Tensor) -> Tensor:
    """ln p / (1 - p) of probabilities (N,), finite."""
    return torch.logit(p.double(), eps=1e-6).float()
