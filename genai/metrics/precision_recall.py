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
    x_radii, y_radii = _radii(x, neighbours), _radii(y, neighbours)  # (N,), (M,)
    precise, recalled = 0, torch.zeros(len(y), dtype=torch.bool)
    for points, radii in zip(x.split(BLOCK), x_radii.split(BLOCK), strict=True):
        distances = _distances(points, y)  # (n, M)
        precise += int((distances <= y_radii).any(dim=1).sum())
        recalled |= (distances <= radii[:, None]).any(dim=0)
    return PrecisionRecall(precise / len(x), recalled.double().mean().item())


def _radii(points: Tensor, neighbours: int) -> Tensor:
    """Distance (N,) of each point to its k-th nearest neighbour; the nearest of all is the point itself."""
    return torch.cat(
        [_distances(block, points).topk(neighbours + 1, largest=False).values[:, -1] for block in points.split(BLOCK)]
    )


def _distances(x: Tensor, y: Tensor) -> Tensor:
    return torch.cdist(x, y, compute_mode="use_mm_for_euclid_dist")
