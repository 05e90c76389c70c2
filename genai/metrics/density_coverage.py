"""Density and coverage (Naeem et al. 2020, arXiv:2002.09797, eqs. 4 and 6): as precision and recall, less open to outliers."""

import torch
from torch import Tensor

from genai.metrics.precision_recall import BLOCK, ROUNDING, squared_radii
from genai.metrics.protocol import Comparison
from genai.metrics.registry import metric


@metric(title="Density", better="higher", format=".3f", paper="arXiv:2002.09797", order=52)
def density(sets: Comparison) -> float:
    """In how many balls around real images a sample lies, divided by k: about 1 for real images, more for typical samples."""
    return density_and_coverage(sets.generated.pool, sets.real.pool, sets.protocol.neighbours)[0]


@metric(title="Coverage", better="higher", format=".3f", paper="arXiv:2002.09797", order=54)
def coverage(sets: Comparison) -> float:
    """Share of the real images that have a sample in their ball, with the k of precision and recall."""
    return density_and_coverage(sets.generated.pool, sets.real.pool, sets.protocol.neighbours)[1]


def density_and_coverage(samples: Tensor, reference: Tensor, neighbours: int) -> tuple[float, float]:
    """Density, at least 0, and coverage, in [0, 1], of samples (N, D) against a reference (M, D), in float64.

    The ball of a real image reaches to its k-th nearest neighbour among the real images. |s - c|^2 <= r_c^2 is tested as
    |c|^2 - r_c^2 - 2 s c <= -|s|^2, for all centres c at once.
    """
    x, centres = samples.double(), reference.double()
    offsets = centres.square().sum(dim=1) - squared_radii(centres, neighbours)  # (M,)
    largest = centres.square().sum(dim=1).max()
    hits, covered = 0, torch.zeros(len(centres), dtype=torch.bool)
    for block in x.split(BLOCK):
        norms = block.square().sum(dim=1, keepdim=True)
        inside = torch.addmm(offsets, block, centres.T, alpha=-2) <= ROUNDING * (norms + largest) - norms  # (n, M)
        hits += int(inside.sum())
        covered |= inside.any(dim=0)
    return hits / (neighbours * len(x)), covered.double().mean().item()
