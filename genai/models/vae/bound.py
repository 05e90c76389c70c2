"""The importance-weighted bound on ln p(x) with many samples, in constant memory."""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def importance_weighted_bound(log_weights: Callable[[int], Tensor], num_samples: int, chunk: int) -> Tensor:
    """ln (1 / K) sum_k w_k in nats, (N,) float64.

    Its mean is a lower bound on ln p(x) that rises with K (Burda et al. 2015, arXiv:1509.00519, equation 8, theorem 1).

    Args:
        log_weights: returns ln w (k, N) of k new samples of the posterior.
        num_samples: K, at least 1.
        chunk: the largest k.
    """
    total: Tensor | None = None
    for start in range(0, num_samples, chunk):
        part = log_weights(min(chunk, num_samples - start)).double().logsumexp(dim=0)
        total = part if total is None else torch.logaddexp(total, part)
    assert total is not None
    return total - math.log(num_samples)
