"""Which pixels a score depends on, by erasing them or by gradients, and whether an explanation is faithful."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from genai.errors import UserError

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


def gradient_maps(score: Score, images: Tensor, fill: Tensor, patch: int, steps: int = 16) -> Tensor:
    """Integrated gradients of a differentiable score (Sundararajan et al. 2017, arXiv:1703.01365, equation 3), by captum.

    Args:
        score: to be explained.
        images: (N, C, H, W) in [-1, 1].
        fill: where the path begins, (C, H, W).
        patch: side of the squares over which the attributions are summed.
        steps: of the path.

    Returns:
        (N, H, W) as `occlusion_maps`; the squares of an image sum to about its score minus that of `fill`.

    Raises:
        UserError: captum is not installed.
    """
    try:
        from captum.attr import IntegratedGradients
    except ImportError:
        raise UserError("--method gradients needs captum: pip install 'genai[captum]'") from None
    attribution: Any = IntegratedGradients(score)
    found = attribution.attribute(images, fill.to(images).expand_as(images), n_steps=steps).sum(dim=1, keepdim=True)
    height, width = images.shape[2:]
    padded = torch.nn.functional.pad(found.float(), (0, -width % patch, 0, -height % patch))
    cells = patch**2 * avg_pool2d(padded, patch)
    return interpolate(cells, scale_factor=float(patch), mode="nearest")[:, 0, :height, :width].detach().cpu()


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


def top_share(values: Tensor, maps: Tensor, share: float) -> Tensor:
    """Mean of values (N, H, W) at the share of positions with the largest maps (N, H, W): (N,)."""
    num = max(1, round(share * maps[0].numel()))
    return values.flatten(1).gather(1, maps.flatten(1).topk(num, dim=1).indices).mean(dim=1)


def random_share(values: Tensor, share: float) -> Tensor:
    """Mean of values (N, H, W) at a random share of positions: (N,)."""
    return top_share(values, torch.rand(values.shape, generator=torch.Generator().manual_seed(0)), share)


def overlaid(images: Tensor, maps: Tensor) -> Tensor:
    """Images (N, C, H, W) in [-1, 1] in grey, red where non-negative maps (N, H, W) are large: (N, 3, H, W)."""
    low = maps.flatten(1).amin(dim=1)[:, None, None]
    heat = (maps - low) / (maps.flatten(1).amax(dim=1)[:, None, None] - low).clamp(min=1e-9)
    grey = 0.25 + 0.5 * 0.5 * (images.mean(dim=1) + 1)
    return 2 * torch.stack([grey + (1 - grey) * heat, grey * (1 - heat), grey * (1 - heat)], dim=1) - 1
