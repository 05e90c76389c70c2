"""How unlike known images a code is."""

import torch
from torch import Tensor

ROWS = 1000  # of distances at once
FITTED = 2000  # known codes that say what is usual


def novelty(codes: Tensor, known: Tensor, neighbours: int = 5) -> Tensor:
    """Mean distance of codes (N, D) to the nearest of `known` (M, D), less what is usual for a code of that length: (N,).

    Long codes, those of intricate images, lie farther from each other; a straight line through the known ones' own distances
    takes that out, so that a simple image can be novel too.
    """
    usual = nearest(known[:FITTED], known, neighbours + 1)[:, 1:].mean(dim=1)  # without itself
    slope, intercept = line(known[:FITTED].norm(dim=1), usual)
    return nearest(codes, known, neighbours).mean(dim=1) - slope * codes.norm(dim=1) - intercept


def nearest(codes: Tensor, known: Tensor, num: int) -> Tensor:
    """The `num` smallest distances from each of codes (N, D) to known (M, D), ascending: (N, num)."""
    parts = [torch.cdist(part, known).topk(num, largest=False, sorted=True).values for part in codes.split(ROWS)]
    return torch.cat(parts)


def line(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and intercept of the least squares line through points (N,), (N,)."""
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    return slope, y.mean() - slope * x.mean()
