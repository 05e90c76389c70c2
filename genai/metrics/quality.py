"""All scores of a set of samples, beside their real-against-real floor and with the protocol that they depend on.

evaluator = Evaluator.of(datamodule, "test", load_extractor("mnist"), num_samples=10_000)
quality = evaluator.measure(extract(network, batches))
rich.print(quality)
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, runtime_checkable
from typing import Protocol as Interface

import numpy as np
import torch
from rich.console import Group
from rich.table import Table
from rich.text import Text
from torch import Tensor

from genai.errors import UserError
from genai.files import write_atomically
from genai.metrics.classes import agreement, class_counts, class_divergence, num_modes, shares, uniform_divergence
from genai.metrics.features import FeatureNetwork, Features
from genai.metrics.fid import frechet_distance
from genai.metrics.inception_score import inception_score
from genai.metrics.kid import kernel_distance
from genai.metrics.precision_recall import precision_recall
from genai.metrics.reference import RealImages, Subset, cache_path, real_features, subset_indices


class RealData(Interface):
    """What measuring needs of a data module."""

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
    """Everything a score depends on besides the model; two scores compare when their protocols are equal."""

    data: str
    fingerprint: str
    split: str
    num_samples: int
    num_reference: int
    features: str
    weights_sha256: str
    resize: str
    seed: int  # of the samples
    is_splits: int
    kid_subsets: int
    kid_subset_size: int
    neighbours: int
    metric_seed: int = 2020  # torch-fidelity's, of the permutation of IS and the subsets of KID

    def describe(self) -> str:
        """One line for a reader."""
        return (
            f"{self.num_samples} samples (seed {self.seed}) against {self.num_reference} images of "
            f"{self.data}/{self.split}; features {self.features} ({self.weights_sha256[:8]}), {self.resize}; "
            f"IS over {self.is_splits} splits, KID over {self.kid_subsets} subsets of {self.kid_subset_size}, "
            f"precision and recall with k = {self.neighbours}"
        )


@dataclass(frozen=True)
class Scores:
    """The scores of one set of images; None where the feature network has no classes to tell."""

    fid: float
    kid: float
    kid_std: float
    precision: float
    recall: float
    is_mean: float | None = None
    is_std: float | None = None
    class_shares: list[float] | None = None
    class_kl: float | None = None
    num_modes: int | None = None
    mode_kl: float | None = None  # KL to uniform, where there are too many classes to list their shares
    label_agreement: float | None = None  # share of images seen as the class asked for; of attributes the mean of these:
    attribute_agreement: dict[str, float] | None = None  # share of images seen to have the attribute as asked


def score(images: Features, reference: Features, protocol: Protocol, network: FeatureNetwork, asked: Tensor | None) -> Scores:
    """All scores of `images` against `reference`, features on the CPU.

    `asked`: the classes (N,) int64 or attributes (N, K) that the images were to have; None where nothing was asked.
    """
    kid = kernel_distance(
        images.pool, reference.pool, protocol.kid_subsets, protocol.kid_subset_size, seed=protocol.metric_seed
    )
    manifold = precision_recall(images.pool, reference.pool, protocol.neighbours)
    return Scores(
        fid=frechet_distance(images.pool, reference.pool),
        kid=kid.mean,
        kid_std=kid.std,
        precision=manifold.precision,
        recall=manifold.recall,
        **_class_scores(images.logits, reference.logits, protocol, network, asked),
    )


def _class_scores(
    logits: Tensor | None, real_logits: Tensor | None, protocol: Protocol, network: FeatureNetwork, asked: Tensor | None
) -> dict[str, Any]:
    if logits is None or real_logits is None:
        return {}
    if network.task == "attributes":
        return {} if asked is None else _attribute_scores(agreement(logits, asked, network.class_names))
    is_mean, is_std = inception_score(logits, protocol.is_splits, protocol.metric_seed)
    scores: dict[str, Any] = {"is_mean": is_mean, "is_std": is_std}
    if network.has_classes:
        counts = class_counts(logits)
        scores |= {
            "class_shares": shares(counts),
            "class_kl": class_divergence(counts, class_counts(real_logits)),
            "num_modes": num_modes(counts),
        }
        if len(counts) > MAX_SHARES:
            scores["mode_kl"] = uniform_divergence(counts)
        if asked is not None:
            scores["label_agreement"] = (logits.argmax(dim=1) == asked).double().mean().item()
    return scores


def _attribute_scores(shares: dict[str, float]) -> dict[str, Any]:
    return {"label_agreement": sum(shares.values()) / len(shares), "attribute_agreement": shares}


# ---------------------------------------------------------------------------------------------------------------------


ROWS = (  # title, field, field of its spread, format
    ("FID ↓", "fid", None, ".4g"),
    ("KID ×1000 ↓", "kid", "kid_std", ".3f"),
    ("Inception score ↑", "is_mean", "is_std", ".3f"),
    ("Precision ↑", "precision", None, ".3f"),
    ("Recall ↑", "recall", None, ".3f"),
    ("Class KL ↓", "class_kl", None, ".4f"),
    ("Modes ↑", "num_modes", None, "d"),
    ("KL to uniform ↓", "mode_kl", None, ".4f"),
    ("Label agreement ↑", "label_agreement", None, ".3f"),
)
MAX_SHARES = 20  # more classes than this make no readable row
NUM_WORST = 3  # attributes told by name


@dataclass(frozen=True)
class Quality:
    """Scores, the floor they are to be read against, and their protocol.

    The floor is what as many real images of the training split score against the same reference: a model that scores as
    well cannot be told from the data by this metric.
    """

    scores: Scores
    floor: Scores
    protocol: Protocol
    class_names: tuple[str, ...] = ()
    real_shares: list[float] | None = None  # of the reference

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def metrics(self) -> dict[str, float]:
        """Flat names and values for a logger: fid, is, kid, ..., each with its floor; share_<class>."""
        values: dict[str, float] = {}
        floor = asdict(self.floor)
        for name, value in asdict(self.scores).items():
            if name not in ("class_shares", "attribute_agreement") and value is not None:
                key = "is" if name == "is_mean" else name
                values |= {key: float(value), f"{key}_floor": float(floor[name])}
        if self.scores.class_shares is not None and len(self.class_names) <= MAX_SHARES:
            values |= {f"share_{n}": s for n, s in zip(self.class_names, self.scores.class_shares, strict=True)}
        return values

    def __rich__(self) -> Group:
        parts: list[Any] = [self._scores_table()]
        if self.scores.class_shares is not None and len(self.class_names) <= MAX_SHARES:
            parts.append(self._shares_table())
        if self.scores.attribute_agreement is not None:
            parts.append(Text(self._worst_attributes(self.scores.attribute_agreement, self.floor.attribute_agreement or {})))
        return Group(*parts, Text(self.protocol.describe(), style="dim"))

    def _scores_table(self) -> Table:
        table = Table("metric", title=f"Sample quality: {self.protocol.data}, {self.protocol.split} split")
        table.add_column("model", justify="right")
        table.add_column("real against real", justify="right")
        for title, name, spread, form in ROWS:
            if getattr(self.scores, name) is not None:
                table.add_row(title, *(_cell(scores, name, spread, form) for scores in (self.scores, self.floor)))
        return table

    def _shares_table(self) -> Table:
        table = Table("share of class, %", *self.class_names)
        for title, values in (("model", self.scores.class_shares), ("real", self.real_shares)):
            table.add_row(title, *(f"{100 * value:.1f}" for value in values or ()))
        return table

    def _worst_attributes(self, seen: dict[str, float], real: dict[str, float]) -> str:
        """One line: the attributes that fall farthest below what the feature network sees in real images."""
        worst = sorted(seen, key=lambda name: seen[name] - real[name])[:NUM_WORST]
        cells = (f"{name} {100 * seen[name]:.1f} % (real {100 * real[name]:.1f} %)" for name in worst)
        return f"seen as asked, farthest below real images of {len(seen)} attributes: {', '.join(cells)}"


def _cell(scores: Scores, name: str, spread: str | None, form: str) -> str:
    scale = 1000 if name == "kid" else 1
    text = format(getattr(scores, name) * scale, form)
    return f"{text} ± {format(getattr(scores, spread) * scale, form)}" if spread else text


# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Evaluator:
    """The real side of a measurement: reference features, their floor and the protocol."""

    protocol: Protocol
    network: FeatureNetwork
    reference: Features
    floor: Scores

    @classmethod
    def of(cls, data: RealData, split: str, network: FeatureNetwork, num_samples: int, seed: int = 0) -> "Evaluator":
        """Measure `split` of `data` itself, or take from the cache what was measured before.

        The reference is the whole split, at most `num_samples` images of it; the floor set is as many images of the
        training split as there will be samples.

        Args:
            data: a data module that is set up.
            split: `val` or `test`; disjoint from the training split.
            network: the feature network, on the device to compute on.
            num_samples: how many samples will be measured; at most the images of the training split are.
            seed: of the samples, for the protocol.

        Raises:
            UserError: a split has fewer than two images.
        """
        protocol = make_protocol(data, split, network, num_samples, seed)
        subset = Subset(data.name, protocol.fingerprint, split, protocol.num_reference)
        reference = real_features(data.split(split), subset, network)
        return cls(protocol, network, reference, _cached_floor(data, protocol, network, reference))

    def measure(self, samples: Features, asked: Tensor | None = None) -> Quality:
        """Score the features of `protocol.num_samples` samples; `asked` as in `score`.

        Raises:
            ValueError: there are more or fewer samples.
        """
        if len(samples.pool) != self.protocol.num_samples:
            raise ValueError(f"the protocol wants {self.protocol.num_samples} samples, there are {len(samples.pool)}")
        real_logits = self.reference.logits if self.network.has_classes else None
        return Quality(
            scores=score(samples.cpu(), self.reference, self.protocol, self.network, asked),
            floor=self.floor,
            protocol=self.protocol,
            class_names=() if real_logits is None else self.network.class_names,
            real_shares=None if real_logits is None else shares(class_counts(real_logits)),
        )


def make_protocol(data: RealData, split: str, network: FeatureNetwork, num_samples: int, seed: int) -> Protocol:
    """The protocol that the sizes of the splits allow."""
    num_samples = min(num_samples, len(data.split("train")))
    num_reference = min(num_samples, len(data.split(split)))
    fewest = min(num_samples, num_reference)
    if fewest < 2:
        raise UserError(f"{data.name}/{split} is measured on {fewest} image(s) and a score needs 2: use more data")
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


def asked_labels(data: RealData, split: str, network: FeatureNetwork, num: int) -> Tensor | None:
    """What `num` samples with the labels of a split are to be, as the feature network can tell it.

    (num,) classes or (num, K) attributes of the images that `cycled` takes; None where the feature network does not know
    them by the same names.
    """
    if isinstance(data, HasAttributes) and network.task == "attributes":
        names, labels = data.attribute_names, data.attributes(split)
    elif data.label_kind == network.task:
        names, labels = data.class_names, data.split(split).labels
    else:
        return None
    return cycled(labels, num) if tuple(names) == network.class_names else None


def cycled(labels: np.ndarray, num: int) -> Tensor:
    """The labels (N, ...) of the reference images in their order, cycled where there are fewer than `num`: (num, ...)."""
    reference = torch.as_tensor(labels[subset_indices(len(labels), num)])
    return reference[torch.arange(num) % len(reference)]


def _cached_floor(data: RealData, protocol: Protocol, network: FeatureNetwork, reference: Features) -> Scores:
    train = Subset(data.name, data.fingerprint("train"), "train", protocol.num_samples)
    key = {**asdict(protocol), "seed": None, "floor": train._asdict()}
    path = cache_path(key, ".json")
    try:
        return _read_scores(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):  # not computed yet, or damaged
        floor = _floor(data, train, protocol, network, reference)
        write_atomically(path, json.dumps(asdict(floor)).encode())
        return floor


def _floor(data: RealData, train: Subset, protocol: Protocol, network: FeatureNetwork, reference: Features) -> Scores:
    images = data.split("train")
    features = real_features(images, train, network)
    return score(features, reference, protocol, network, asked_labels(data, "train", network, train.num_images))


def _read_scores(content: Mapping[str, Any]) -> Scores:
    if content.keys() != {field.name for field in fields(Scores)} or not math.isfinite(content["fid"]):
        raise ValueError("not the scores of this version")
    return Scores(**content)
