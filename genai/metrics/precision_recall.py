"""Improved precision and recall (Kynkäänniemi et al. 2019, arXiv:1904.06991, eqs. 1 and 2)."""

from typing import NamedTuple

import torch
from torch import Tensor

BLOCK = 1000  # rows of a distance matrix held at once


class PrecisionRecall(NamedTuple):
    """Both in 0..1."""

    precision: float  # share of samples inside the manifold of the reference: quality
    recall: float  # share of the reference inside the manifold of the samples: diversity


def precision_recall(samples: Tensor, reference: Tensor, neighbours: int = 3) -> PrecisionRecall:
    """Shares of features (N, D) and (M, D) that lie in the other set's manifold, in float64.

    A set's manifold is the union of balls around its points, each reaching to the point's k-th nearest neighbour.
    """
    x, y = samples.double(), reference.double()
    return PrecisionRecall(
        precision=_share_inside(x, y, _squared_radii(y, neighbours)),
        recall=_share_inside(y, x, _squared_radii(x, neighbours)),
    )


def _squared_radii(points: Tensor, neighbours: int) -> Tensor:
    """Squared distance (N,) of each point to its k-th nearest neighbour; the nearest of all is the point itself."""
    norms = points.square().sum(dim=1)
    nearest = [
        torch.addmm(norms, block, points.T, alpha=-2).topk(neighbours + 1, largest=False).values[:, -1]
        for block in points.split(BLOCK)
    ]
    return torch.cat(nearest) + norms


def _share_inside(points: Tensor, centres: Tensor, squared_radii: Tensor) -> float:
    """Share of points p with |p - c|^2 <= r_c^2, that is |c|^2 - r_c^2 - 2 p c <= -|p|^2, for some centre c."""
    offsets = centres.square().sum(dim=1) - squared_radii
    lowest = [torch.addmm(offsets, block, centres.T, alpha=-2).amin(dim=1) for block in points.split(BLOCK)]
    return (torch.cat(lowest) <= -points.square().sum(dim=1)).double().mean().item()
