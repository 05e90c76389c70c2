"""What a score depends on besides the model (`Protocol`), and what a metric is computed from (`Comparison`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, runtime_checkable
from typing import Protocol as Interface

import numpy as np
from torch import Tensor

from genai.errors import UserError
from genai.metrics.features import FeatureNetwork, Features
from genai.metrics.reference import RealImages


class RealData(Interface):
    """What evaluation needs of a data module."""

    @property
    def name(self) -> str: ...
    @property
    def label_kind(self) -> str: ...
    @property
    def class_names(self) -> Sequence[str]: ...

    def split(self, name: Any) -> RealImages: ...
    def fingerprint(self, split: Any) -> str: ...


@runtime_checkable
class HasAttributes(Interface):
    """Data whose images have known attributes, whatever their labels are."""

    @property
    def attribute_names(self) -> Sequence[str]: ...

    def attributes(self, split: Any) -> np.ndarray: ...


@dataclass(frozen=True)
class Protocol:
    """Everything that a score depends on besides the model; two scores are comparable if their protocols are equal.

    Attributes:
        data, fingerprint, split: the reference images: dataset, hash of its content, split.
        num_samples, num_reference: sizes of the two sets of images.
        features, weights_sha256, resize: feature network, hash of its weights, resize filter.
        seed: of the samples; None if it is not known.
        is_splits: splits of the Inception score.
        kid_subsets, kid_subset_size: subsets of the kernel distance.
        neighbours: k of precision and recall.
        metric_seed: of the permutation of the Inception score and the subsets of the kernel distance; torch-fidelity's.
    """

    data: str
    fingerprint: str
    split: str
    num_samples: int
    num_reference: int
    features: str
    weights_sha256: str
    resize: str
    seed: int | None
    is_splits: int
    kid_subsets: int
    kid_subset_size: int
    neighbours: int
    metric_seed: int = 2020

    def describe(self) -> str:
        """One line of text."""
        seed = "" if self.seed is None else f" (seed {self.seed})"
        return (
            f"{self.num_samples:,} samples{seed} against {self.num_reference:,} images of "
            f"{self.data}/{self.split}; features {self.features} ({self.weights_sha256[:8]}), {self.resize}; "
            f"IS over {self.is_splits} splits, KID over {self.kid_subsets} subsets of {self.kid_subset_size:,}, "
            f"precision and recall with k = {self.neighbours}"
        )


@dataclass(frozen=True)
class Comparison:
    """The two sets of images that a metric compares.

    Attributes:
        generated: features of the N samples, on the CPU.
        real: features of the M reference images, on the CPU.
        labels: classes (N,) int64 or attributes (N, K) that the samples should show; None for an unconditional model.
        network: the feature network.
        protocol: sizes, seeds and the parameters of the metrics.
        images: uint8 samples (N, C, H, W) and reference images (M, C, H, W), for metrics on request; else None.
    """

    generated: Features
    real: Features
    labels: Tensor | None
    network: FeatureNetwork
    protocol: Protocol
    images: tuple[Tensor, Tensor] | None = None


def make_protocol(data: RealData, split: str, network: FeatureNetwork, num_samples: int, seed: int | None) -> Protocol:
    """The protocol of `num_samples` samples against a split, both limited by the sizes of the splits.

    Raises:
        UserError: a set would have fewer than two images.
    """
    num_samples = min(num_samples, len(data.split("train")))
    num_reference = min(num_samples, len(data.split(split)))
    fewest = min(num_samples, num_reference)
    if fewest < 2:
        raise UserError(f"a score of {data.name}/{split} needs at least 2 images, but there are {fewest}: use more")
    return Protocol(
        data=data.name,
        fingerprint=data.fingerprint(split),
        split=split,
        num_samples=num_samples,
        num_reference=num_reference,
        features=network.name,
        weights_sha256=network.weights_sha256,
        resize=network.resize,
        seed=seed,
        is_splits=min(10, num_samples),
        kid_subsets=100,
        kid_subset_size=min(1000, fewest),
        neighbours=min(3, fewest - 1),
    )
