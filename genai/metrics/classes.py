"""Which classes and attributes samples have, as the feature network sees them: shares, modes, agreement with what was asked."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def class_counts(logits: Tensor) -> Tensor:
    """Logits (N, K) -> how many images each class is most probable for, (K,) int64."""
    return torch.bincount(logits.argmax(dim=1), minlength=logits.shape[1])


def shares(counts: Tensor) -> list[float]:
    """Counts (K,) -> shares that add up to 1."""
    values: list[float] = (counts.double() / counts.sum()).tolist()
    return values


def class_divergence(counts: Tensor, real_counts: Tensor) -> float:
    """KL(model || real) in nats between the shares that counts (K,) stand for.

    A class without any real image counts as half an image, so that the divergence stays finite.
    """
    p = shares(counts)
    total = float(real_counts.sum())
    q = [max(float(count), 0.5) / total for count in real_counts]
    return sum(p_k * math.log(p_k / q_k) for p_k, q_k in zip(p, q, strict=True) if p_k > 0)


def uniform_divergence(counts: Tensor) -> float:
    """KL(model || uniform) in nats between the shares that counts (K,) stand for and 1 / K: 0 to ln K.

    The measure of Stacked MNIST (Metz et al. 2017, arXiv:1611.02163; PacGAN, Lin et al. 2018, arXiv:1712.04086), whose 1,000
    triples of digits are nearly equally frequent. Counting N samples of a uniform sampler gives about (K - 1) / 2N, not 0:
    0.019 for K = 1,000 and N = 26,000.
    """
    return class_divergence(counts, torch.ones_like(counts))


def num_modes(counts: Tensor) -> int:
    """How many classes have at least one image."""
    return int((counts > 0).sum())


def agreement(logits: Tensor, asked: Tensor, names: Sequence[str]) -> dict[str, float]:
    """The share of images that have each attribute as asked: where its logit is positive it is seen, else it is not.

    logits: (N, K), one of each binary attribute.
    asked: (N, K), 1 where the attribute was asked for, else 0.
    names: of the K attributes.
    """
    values: list[float] = ((logits > 0) == (asked > 0.5)).double().mean(dim=0).tolist()
    return dict(zip(names, values, strict=True))
