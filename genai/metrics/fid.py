"""Fréchet distance between two sets of features (FID: Heusel et al. 2017, arXiv:1706.08500, eq. 6)."""

import torch
from torch import Tensor

from genai.metrics.protocol import Comparison
from genai.metrics.registry import metric


@metric(title="FID", better="lower", format="#.4g", paper="arXiv:1706.08500", order=10)
def fid(sets: Comparison) -> float:
    """Fréchet inception distance between generated and real images, on the features of the protocol's network."""
    return frechet_distance(sets.generated.pool, sets.real.pool)


def frechet_distance(samples: Tensor, reference: Tensor) -> float:
    """||mu_1 - mu_2||^2 + Tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2)) of features (N, D) and (M, D) in float64; N, M at least 2.

    With S_i = R_i^T R_i, the trace of (S_1 S_2)^(1/2) is the sum of the singular values of R_1 R_2^T, computed from a symmetric
    matrix of side min(N, M, D). torchmetrics and torch-fidelity compute the eigenvalues of the unsymmetric S_1 S_2 of side D:
    the same value, ten times slower at D = 2048, and rank-deficient when N < D.
    """
    return distance(mean_and_root(samples), mean_and_root(reference))


def distance(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> float:
    """`frechet_distance` of two sets, each given by its mean and a root of its covariance."""
    (mu_1, r_1), (mu_2, r_2) = first, second
    if len(r_1) > len(r_2):
        r_1, r_2 = r_2, r_1
    cross = r_1 @ r_2.T  # (min(N, M, D), ...)
    trace_root = torch.linalg.eigvalsh(cross @ cross.T).clamp_(min=0).sqrt_().sum()
    squared: Tensor = (mu_1 - mu_2).square().sum() + r_1.square().sum() + r_2.square().sum() - 2 * trace_root
    return squared.item()


def mean_and_root(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and a root R (min(N, D), D) of the unbiased covariance R^T R."""
    x = features.double()
    mean = x.mean(dim=0)
    root = (x - mean) / (len(x) - 1) ** 0.5
    return mean, torch.linalg.qr(root, mode="r").R if len(x) > x.shape[1] else root
