"""Inception score (Salimans et al. 2016, arXiv:1606.03498, eq. 1)."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from torch import Tensor


class InceptionScore(NamedTuple):
    """Mean and standard deviation over the splits; 1 is worst, the number of classes best."""

    mean: float
    std: float


def inception_score(logits: Tensor, splits: int = 10, seed: int = 2020) -> InceptionScore:
    """exp(E_x KL(p(y|x) || p(y))) of logits (N, K) in each of `splits` parts of a fixed permutation, in float64.

    The permutation is torch-fidelity's, so the score is the same to the last digits.
    """
    order = np.random.RandomState(seed).permutation(len(logits))
    bounds = [i * len(logits) // splits for i in range(splits + 1)]
    scores = [_score(logits[order[a:b]].double()) for a, b in pairwise(bounds)]
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)))


def _score(logits: Tensor) -> float:
    log_p, p = logits.log_softmax(dim=1), logits.softmax(dim=1)
    kl = (p * (log_p - p.mean(dim=0).log())).sum(dim=1)  # (n,)
    return kl.mean().exp().item()
