"""Kernel inception distance (Bińkowski et al. 2018, arXiv:1801.01401, section 4)."""

import numpy as np
import torch
from torch import Tensor

from genai.metrics.protocol import Comparison
from genai.metrics.registry import Estimate, metric


@metric(title="KID", better="lower", format=".3f", paper="arXiv:1801.01401", scale=1000, order=20)
def kid(sets: Comparison) -> Estimate:
    """Kernel inception distance between generated and real images; unbiased, so it can be slightly below 0."""
    p = sets.protocol
    return kernel_distance(sets.generated.pool, sets.real.pool, p.kid_subsets, p.kid_subset_size, p.metric_seed)


def kernel_distance(
    samples: Tensor, reference: Tensor, subsets: int = 100, subset_size: int = 1000, seed: int = 2020
) -> Estimate:
    """Unbiased squared MMD with the kernel (x^T y / D + 1)^3 between features (N, D) and (M, D), in float64.

    Mean and standard deviation over `subsets` random subsets of `subset_size` images of each set, at most N and M; they are
    torch-fidelity's subsets. About 0, also below, for equal distributions. Where a subset is the whole of both sets, one is
    enough, and there is no standard deviation.
    """
    from torchmetrics.image.kid import maximum_mean_discrepancy

    generator = np.random.RandomState(seed)
    x, y = samples.double(), reference.double()
    distances = []
    is_whole = subset_size == len(x) == len(y)
    for _ in range(1 if is_whole else subsets):
        x_part = x[torch.from_numpy(generator.choice(len(x), subset_size, replace=False))]
        y_part = y[torch.from_numpy(generator.choice(len(y), subset_size, replace=False))]
        k_xx, k_xy, k_yy = _kernel(x_part, x_part), _kernel(x_part, y_part), _kernel(y_part, y_part)
        distances.append(maximum_mean_discrepancy(k_xx, k_xy, k_yy).item())
    return Estimate(float(np.mean(distances)), None if is_whole else float(np.std(distances)))


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    """(x^T y / D + 1)^3 for each pair of rows, (n, m)."""
    return torch.addmm(x.new_ones(()), x, y.T, alpha=1 / x.shape[1]).pow_(3)
