"""Evaluation of samples: every metric, beside its floor (real against real) and with the protocol that it depends on.

network = load_extractor("mnist")
evaluator = Evaluator.of(datamodule, "test", network, num_samples=10_000)
result = evaluator.measure(extract(network, batches))
print(result)
"""

import io
import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text
from torch import Tensor

from genai.files import write_atomically
from genai.metrics.classes import MAX_SHARES, attribute_agreement, class_counts, counts_of, shares
from genai.metrics.features import FeatureNetwork, Features
from genai.metrics.labels import expected_labels
from genai.metrics.protocol import Comparison, Protocol, RealData, make_protocol
from genai.metrics.reference import Subset, cache_path, real_features, real_images
from genai.metrics.registry import METRICS_VERSION, all_metrics, compute_scores
from genai.metrics.tables import WrappedTable
from genai.metrics.two_sample import MAX_IMAGES

NUM_WORST = 3  # attributes with the lowest agreement to print


@dataclass(frozen=True)
class Measurement:
    """What is measured of one set of images.

    Attributes:
        scores: each metric that applies, by name, and its standard deviation as NAME_std.
        class_shares: share of each class, (K,); None if the feature network has no named classes.
        attribute_agreement: share of images that show each attribute as their label says, (K,); None without such labels.
    """

    scores: dict[str, float]
    class_shares: list[float] | None = None
    attribute_agreement: list[float] | None = None


def measure(sets: Comparison) -> Measurement:
    """Compute every metric, and the breakdowns by class or attribute."""
    counts, logits = counts_of(sets), sets.generated.logits
    by_attribute = sets.network.task == "attributes" and logits is not None and sets.labels is not None
    return Measurement(
        scores=compute_scores(sets),
        class_shares=None if counts is None else shares(counts[0]),
        attribute_agreement=attribute_agreement(logits, sets.labels) if by_attribute else None,  # type: ignore[arg-type]
    )


@dataclass(frozen=True)
class EvaluationResult:
    """Scores, the floor to compare them with, and their protocol.

    The floor is the score of as many real images of the training split against the same reference. A metric cannot tell a
    model from the data if its score is as good as the floor.

    Attributes:
        samples: what was measured of the samples.
        real: what was measured of the training images, the floor.
        protocol: everything that the scores depend on besides the model.
        class_names: names of the classes or attributes; empty if the feature network has none.
        reference_shares: share of each class in the reference images; None without classes.
    """

    samples: Measurement
    real: Measurement
    protocol: Protocol
    class_names: tuple[str, ...] = ()
    reference_shares: list[float] | None = None

    @property
    def scores(self) -> dict[str, float]:
        """Each metric of the samples by name, and its standard deviation as NAME_std."""
        return self.samples.scores

    @property
    def floor(self) -> dict[str, float]:
        """The same of real images."""
        return self.real.scores

    @property
    def lists_shares(self) -> bool:
        """Whether there are class shares, and few enough to list each."""
        return self.samples.class_shares is not None and len(self.class_names) <= MAX_SHARES

    def to_dict(self) -> dict[str, Any]:
        """For JSON: scores, floor, protocol; class_shares and attribute_agreement if they were measured."""
        content: dict[str, Any] = {"scores": self.scores, "floor": self.floor, "protocol": asdict(self.protocol)}
        for name in ("class_shares", "attribute_agreement"):
            samples, real = getattr(self.samples, name), getattr(self.real, name)
            if samples is not None:
                content[name] = {"names": list(self.class_names), "samples": samples, "floor": real}
        if self.reference_shares is not None:
            content["class_shares"]["reference"] = self.reference_shares
        return content

    def metrics(self) -> dict[str, float]:
        """Flat names and values for a logger: fid, fid_floor, ...; and share_<class> if the classes are few."""
        values = {name: float(value) for name, value in self.scores.items()}
        values |= {f"{name}_floor": float(self.floor[name]) for name in self.scores if name in self.floor}
        if self.lists_shares:
            values |= {f"share_{n}": s for n, s in zip(self.class_names, self.samples.class_shares or (), strict=True)}
        return values

    def __str__(self) -> str:
        """The tables as text, as wide as the terminal."""
        console = Console(file=io.StringIO(), width=shutil.get_terminal_size().columns)
        console.print(self)
        return console.file.getvalue().rstrip()  # type: ignore[attr-defined]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield WrappedTable(
            ["metric", "samples", "real against real"],
            [
                [declared.heading, declared.text(self.scores, with_std=True), declared.text(self.floor, with_std=True)]
                for declared in all_metrics()
                if declared.name in self.scores
            ],
            title=f"Sample quality: {self.protocol.data}, {self.protocol.split} split",
        )
        if self.lists_shares:
            rows = (("samples", self.samples.class_shares), ("real", self.reference_shares))
            yield WrappedTable(
                ["class", *self.class_names],
                [[title, *(f"{100 * value:.1f}" for value in values or ())] for title, values in rows],
                title="Share of each class, %",
            )
        if self.samples.attribute_agreement is not None:
            yield Text(self._worst_attributes(self.samples.attribute_agreement, self.real.attribute_agreement or []))
        yield Text(self.protocol.describe(), style="dim")

    def _worst_attributes(self, samples: list[float], real: list[float]) -> str:
        """The attributes whose agreement is farthest below that of real images."""
        rows = sorted(zip(samples, real, self.class_names, strict=True), key=lambda row: row[0] - row[1])
        cells = (f"{name} {100 * a:.1f} % (real {100 * b:.1f} %)" for a, b, name in rows[:NUM_WORST])
        return f"lowest agreement of {len(rows)} attributes, compared with real images: {', '.join(cells)}"


@dataclass(frozen=True)
class Evaluator:
    """The real side of an evaluation: reference features, floor and protocol; for the two-sample test also reference images."""

    protocol: Protocol
    network: FeatureNetwork
    reference: Features
    floor: Measurement = field(repr=False)
    images: Tensor | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls,
        data: RealData,
        split: str,
        network: FeatureNetwork,
        num_samples: int,
        seed: int | None = 0,
        two_sample: bool = False,
    ) -> "Evaluator":
        """Compute reference features and floor, or read them from the cache.

        The reference is the whole split, at most `num_samples` images of it; the floor is measured on as many images of the
        training split as there will be samples.

        Args:
            data: a data module after `setup`.
            split: `val` or `test`; disjoint from the training split.
            network: the feature network, on the device to compute on.
            num_samples: number of samples to be measured, limited by the size of the training split.
            seed: of the samples, for the protocol; None if it is not known.
            two_sample: train small networks to tell samples from reference images, a minute for 5,000 images of 28 pixels.

        Raises:
            UserError: a split has fewer than two images.
        """
        protocol = make_protocol(data, split, network, num_samples, seed)
        subset = Subset(data.name, protocol.fingerprint, split, protocol.num_reference)
        reference = real_features(data.split(split), subset, network)
        images = real_images(data.split(split), subset, MAX_IMAGES) if two_sample else None
        return cls(protocol, network, reference, _floor(data, protocol, network, reference, images), images)

    def measure(self, samples: Features, labels: Tensor | None = None, images: Tensor | None = None) -> EvaluationResult:
        """Evaluate the features of `protocol.num_samples` samples.

        Args:
            samples: features by `network`.
            labels: classes (N,) or attributes (N, K) that the samples should show, see `expected_labels`; None for an
                unconditional model.
            images: the samples themselves (N, C, H, W) uint8, for the two-sample test; its first 5,000 suffice.

        Raises:
            ValueError: there are more or fewer samples, or the two-sample test has no images.
        """
        if len(samples.pool) != self.protocol.num_samples:
            raise ValueError(f"the protocol has {self.protocol.num_samples} samples, but there are {len(samples.pool)}")
        if self.images is not None and images is None:
            raise ValueError("the two-sample test needs the samples: give `images`")
        pair = None if self.images is None or images is None else (images.cpu(), self.images)
        sets = Comparison(samples.cpu(), self.reference, labels, self.network, self.protocol, pair)
        has_shares = self.network.has_classes and self.reference.logits is not None
        return EvaluationResult(
            samples=measure(sets),
            real=self.floor,
            protocol=self.protocol,
            class_names=self.network.class_names,
            reference_shares=shares(class_counts(self.reference.logits)) if has_shares else None,  # type: ignore[arg-type]
        )


def _floor(
    data: RealData, protocol: Protocol, network: FeatureNetwork, reference: Features, images: Tensor | None
) -> Measurement:
    """The measurement of training images, from the cache or computed; with reference `images` also the two-sample test."""
    train = Subset(data.name, data.fingerprint("train"), "train", protocol.num_samples)
    names = [declared.name for declared in all_metrics()]
    key = {**asdict(protocol), "seed": None, "floor": train._asdict(), "metrics": names, "edition": METRICS_VERSION}
    key["two_sample"] = images is not None
    path = cache_path(key, ".json")
    try:
        return _read_measurement(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):  # not computed yet, or damaged
        features = real_features(data.split("train"), train, network)
        labels = expected_labels(data, "train", network, train.num_images)
        pair = None if images is None else (real_images(data.split("train"), train, MAX_IMAGES), images)
        floor = measure(Comparison(features, reference, labels, network, protocol, pair))
        write_atomically(path, json.dumps(asdict(floor)).encode())
        return floor


def _read_measurement(content: Mapping[str, Any]) -> Measurement:
    """A measurement from its JSON; ValueError or TypeError if it is something else."""
    measurement = Measurement(**content)
    if not all(math.isfinite(value) for value in measurement.scores.values()):
        raise ValueError("a score is not finite")
    return measurement
