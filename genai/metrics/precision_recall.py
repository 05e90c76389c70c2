"""Improved precision and recall (Kynkäänniemi et al. 2019, arXiv:1904.06991, eqs. 1 and 2)."""

import torch
from torch import Tensor

from genai.metrics.protocol import Comparison
from genai.metrics.registry import metric

BLOCK = 1000  # rows of a distance matrix held at once


@metric(title="Precision", better="higher", format=".3f", paper="arXiv:1904.06991", order=40)
def precision(sets: Comparison) -> float:
    """Share of the samples inside the manifold of the real images: quality."""
    return share_inside(sets.generated.pool, sets.real.pool, sets.protocol.neighbours)


@metric(title="Recall", better="higher", format=".3f", paper="arXiv:1904.06991", order=50)
def recall(sets: Comparison) -> float:
    """Share of the real images inside the manifold of the samples: diversity."""
    return share_inside(sets.real.pool, sets.generated.pool, sets.protocol.neighbours)


ROUNDING = 1e-9  # of the squared norms: the two sides are summed in another order, and duplicates lie on the sphere


def share_inside(points: Tensor, manifold: Tensor, neighbours: int = 3) -> float:
    """Share, in [0, 1], of `points` (N, D) that lie in the manifold of `manifold` (M, D), in float64.

    The manifold of a set is the union of balls around its points; the radius of a ball is the distance to the k-th nearest
    neighbour within the set. |p - c|^2 <= r_c^2 is tested as |c|^2 - r_c^2 - 2 p c <= -|p|^2, for all centres c at once.
    """
    x, centres = points.double(), manifold.double()
    offsets = centres.square().sum(dim=1) - squared_radii(centres, neighbours)  # (M,)
    lowest = [torch.addmm(offsets, block, centres.T, alpha=-2).amin(dim=1) for block in x.split(BLOCK)]
    norms = x.square().sum(dim=1)
    return (torch.cat(lowest) <= ROUNDING * (norms + centres.square().sum(dim=1).max()) - norms).double().mean().item()


def squared_radii(points: Tensor, neighbours: int) -> Tensor:
    """Squared distance (N,) of each point (N, D) to its k-th nearest neighbour in the set; the nearest of all is itself."""
    from sklearn.neighbors import NearestNeighbors  # a second to import

    search = NearestNeighbors(n_neighbors=neighbours + 1, algorithm="brute").fit(points.numpy())
    distances, _ = search.kneighbors(points.numpy())  # (N, k + 1), ascending
    return torch.from_numpy(distances[:, -1]).square()
