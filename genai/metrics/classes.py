"""Classes and attributes of samples, as the feature network predicts them: shares, modes, agreement with the labels."""

import math

import torch
from torch import Tensor

from genai.metrics.protocol import Comparison
from genai.metrics.registry import metric

MAX_SHARES = 20  # more classes than this are summarised by their number of modes and their divergence from uniform


@metric(title="Class KL", better="lower", format=".4f", paper="arXiv:1611.02163", order=60)
def class_kl(sets: Comparison) -> float | None:
    """KL divergence, in nats, of the class shares of the samples from those of the real images."""
    counts = counts_of(sets)
    return None if counts is None else class_divergence(*counts)


@metric(title="Modes", better="higher", format="d", paper="arXiv:1611.02163", order=70)
def num_modes(sets: Comparison) -> int | None:
    """Number of classes with at least one sample."""
    counts = counts_of(sets)
    return None if counts is None else count_modes(counts[0])


@metric(title="KL to uniform", better="lower", format=".4f", paper="arXiv:1611.02163", order=80)
def mode_kl(sets: Comparison) -> float | None:
    """KL divergence, in nats, of the class shares from uniform; only for more classes than a table of shares can list."""
    counts = counts_of(sets)
    return None if counts is None or len(counts[0]) <= MAX_SHARES else uniform_divergence(counts[0])


@metric(title="Label agreement", better="higher", format=".3f", paper="arXiv:1610.09585", order=90)
def label_agreement(sets: Comparison) -> float | None:
    """Share of samples that the feature network assigns to the class they were conditioned on; for attributes their mean."""
    logits, labels = sets.generated.logits, sets.labels
    if logits is None or labels is None:
        return None
    if sets.network.task == "attributes":
        agreement = attribute_agreement(logits, labels)
        return sum(agreement) / len(agreement)
    return (logits.argmax(dim=1) == labels).double().mean().item() if sets.network.has_classes else None


def counts_of(sets: Comparison) -> tuple[Tensor, Tensor] | None:
    """How many samples, and how many real images, each class has: (K,) int64 each; None without classes."""
    if not sets.network.has_classes or sets.generated.logits is None or sets.real.logits is None:
        return None
    return class_counts(sets.generated.logits), class_counts(sets.real.logits)


def class_counts(logits: Tensor) -> Tensor:
    """Logits (N, K) -> how many images each class is most probable for, (K,) int64."""
    return torch.bincount(logits.argmax(dim=1), minlength=logits.shape[1])


def shares(counts: Tensor) -> list[float]:
    """Counts (K,) -> shares that sum to 1."""
    values: list[float] = (counts.double() / counts.sum()).tolist()
    return values


def class_divergence(counts: Tensor, real_counts: Tensor) -> float:
    """KL(model || real) in nats between the class shares of two vectors of counts (K,).

    A class without a real image counts as half an image, so that the divergence stays finite.
    """
    p = shares(counts)
    total = float(real_counts.sum())
    q = [max(float(count), 0.5) / total for count in real_counts]
    return sum(p_k * math.log(p_k / q_k) for p_k, q_k in zip(p, q, strict=True) if p_k > 0)


def uniform_divergence(counts: Tensor) -> float:
    """KL(model || uniform) in nats of the class shares of counts (K,), 0 to ln K.

    The measure of Stacked MNIST (Metz et al. 2017, arXiv:1611.02163; PacGAN, Lin et al. 2018, arXiv:1712.04086), whose 1,000
    triples of digits are nearly equally frequent. N samples of a uniform sampler give about (K - 1) / 2N, not 0: 0.019 for
    K = 1,000 and N = 26,000.
    """
    return class_divergence(counts, torch.ones_like(counts))


def count_modes(counts: Tensor) -> int:
    """Number of classes with at least one image."""
    return int((counts > 0).sum())


def attribute_agreement(logits: Tensor, labels: Tensor) -> list[float]:
    """Share of images, for each attribute, whose prediction equals the label; a positive logit predicts the attribute.

    Args:
        logits: (N, K), one for each binary attribute.
        labels: (N, K), 1 where the image should have the attribute, else 0.
    """
    values: list[float] = ((logits > 0) == (labels > 0.5)).double().mean(dim=0).tolist()
    return values
