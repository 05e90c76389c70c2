"""Inception score (Salimans et al. 2016, arXiv:1606.03498, eq. 1)."""

from itertools import pairwise

import numpy as np
from torch import Tensor

from genai.metrics.protocol import Comparison
from genai.metrics.registry import Estimate, metric


@metric(title="Inception score", better="higher", format=".3f", paper="arXiv:1606.03498", order=30)
def inception_score(sets: Comparison) -> Estimate | None:
    """Inception score of generated images; None for a network of attributes, whose logits are not exclusive classes."""
    if sets.generated.logits is None or sets.network.task != "class":
        return None
    return marginal_divergence(sets.generated.logits, sets.protocol.is_splits, sets.protocol.metric_seed)


def marginal_divergence(logits: Tensor, splits: int = 10, seed: int = 2020) -> Estimate:
    """exp(E_x KL(p(y|x) || p(y))) of logits (N, K), from 1 (worst) to K: mean and standard deviation over `splits`, in float64.

    The splits are parts of torch-fidelity's permutation, so the score is equal to the last digits.
    """
    order = np.random.RandomState(seed).permutation(len(logits))
    bounds = [i * len(logits) // splits for i in range(splits + 1)]
    scores = [_score(logits[order[a:b]].double()) for a, b in pairwise(bounds)]
    return Estimate(float(np.mean(scores)), float(np.std(scores)))


def _score(logits: Tensor) -> float:
    log_p, p = logits.log_softmax(dim=1), logits.softmax(dim=1)
    kl = (p * (log_p - p.mean(dim=0).log())).sum(dim=1)  # (n,)
    return kl.mean().exp().item()
