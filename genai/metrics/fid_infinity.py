"""FID extrapolated to infinitely many samples (Chong and Forsyth 2020, arXiv:1911.07023), without most of its bias."""

import numpy as np
import torch
from torch import Tensor

from genai.metrics.fid import distance, mean_and_root
from genai.metrics.protocol import Comparison
from genai.metrics.registry import metric

POINTS = 10  # numbers of samples, from a tenth of them to all
FEWEST = 100  # samples; fewer do not determine a line


@metric(title="FID inf", better="lower", format="#.4g", paper="arXiv:1911.07023", order=56)
def fid_infinity(sets: Comparison) -> float | None:
    """FID as N goes to infinity; the bias of the finite reference remains, as it does in the floor."""
    if len(sets.generated.pool) < FEWEST:
        return None
    return extrapolated_distance(sets.generated.pool, sets.real.pool, sets.protocol.metric_seed)


def extrapolated_distance(samples: Tensor, reference: Tensor, seed: int = 2020) -> float:
    """The intercept of a line through the Fréchet distances of n samples over 1 / n; it can be slightly below 0.

    Args:
        samples: features (N, D), N at least 100.
        reference: features (M, D), all of them at every point.
        seed: of the order of the samples; n samples are the first n of it.
    """
    shuffled = samples[torch.from_numpy(np.random.RandomState(seed).permutation(len(samples)))]
    real = mean_and_root(reference)
    sizes = np.linspace(len(samples) / 10, len(samples), POINTS).astype(int)
    distances = [distance(mean_and_root(shuffled[:size]), real) for size in sizes]
    return float(np.polyfit(1 / sizes, distances, 1)[1])
