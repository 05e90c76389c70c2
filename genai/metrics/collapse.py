"""Statistics of mode collapse: which classes are over-represented or missing among samples, and by more than chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from genai.metrics.classes import MAX_SHARES
from genai.metrics.evaluation import EvaluationResult

State = Literal["fine", "collapsed", "low_precision"]
NUM_NAMED = 3  # over-represented classes that a line names


class Thresholds(NamedTuple):
    """What counts as collapse.

    Attributes:
        max_share_ratio: a class is over-represented if its share is at least this multiple of its real share.
        min_share_ratio: a class is missing if its share is at most this multiple of its real share.
        min_recall: without classes: collapsed if recall is below this multiple of the floor's.
        min_affected: smallest excess of the over-represented classes, or real share of the missing ones, that is a collapse.
        min_precision: samples are like the data if precision is at least this multiple of the floor's.
        significance: largest probability that any class of an even model is called over-represented (or missing).
    """

    max_share_ratio: float = 2.0
    min_share_ratio: float = 0.1
    min_recall: float = 0.25
    min_affected: float = 0.05
    min_precision: float = 0.3
    significance: float = 0.001


class ClassShare(NamedTuple):
    """A class, its share of the samples and of the real images, both in [0, 1]."""

    name: str
    share: float
    real: float


@dataclass(frozen=True)
class Diagnosis:
    """Mode collapse of a set of samples, detected by class shares or, without classes, by recall.

    Attributes:
        overrepresented: over-represented classes, the largest excess first.
        missing: missing classes.
        has_classes: whether the feature network has named classes.
        is_uneven: whether these classes have enough weight for a collapse; without classes, whether recall is too low.
        is_like_data: whether precision is high enough for the classes of the samples to be meaningful.
    """

    overrepresented: tuple[ClassShare, ...]
    missing: tuple[ClassShare, ...]
    has_classes: bool
    is_uneven: bool
    is_like_data: bool
    precision: float
    precision_floor: float
    recall: float
    recall_floor: float

    @property
    def state(self) -> State:
        """`fine`, `collapsed`, or `low_precision`: the samples are too unlike the data for a diagnosis."""
        if not self.is_like_data:
            return "low_precision"
        return "collapsed" if self.is_uneven else "fine"

    def describe(self) -> str:
        """One line of text."""
        parts = [] if self.is_like_data else [f"precision {self.precision:.2f} (floor {self.precision_floor:.2f})"]
        for name, share, real in self.overrepresented[:NUM_NAMED]:
            parts.append(f"class {name} makes up {100 * share:.1f} % of the samples, {100 * real:.1f} % of the real images")
        if len(self.overrepresented) > NUM_NAMED:
            parts.append(f"{len(self.overrepresented) - NUM_NAMED} more classes over-represented")
        if self.missing:
            names = [name for name, _, _ in self.missing]
            parts.append(f"missing: {', '.join(names) if len(names) <= MAX_SHARES else f'{len(names)} classes'}")
        elif self.has_classes and not self.overrepresented:
            parts.append("no class over-represented or missing")
        return "; ".join([*parts, f"recall {self.recall:.2f} (floor {self.recall_floor:.2f})"])


def diagnose(result: EvaluationResult, thresholds: Thresholds) -> Diagnosis:
    """Look for mode collapse in the result of an evaluation."""
    scores, floor = result.scores, result.floor
    class_shares, real_shares = result.samples.class_shares, result.reference_shares
    overrepresented: list[ClassShare] = []
    missing: list[ClassShare] = []
    if class_shares is None or real_shares is None:
        is_uneven = scores["recall"] < thresholds.min_recall * floor["recall"]
    else:
        found = [ClassShare(*row) for row in zip(result.class_names, class_shares, real_shares, strict=True)]
        num_samples, num_reference = result.protocol.num_samples, result.protocol.num_reference
        overrepresented, missing = affected_classes(found, num_samples, num_reference, thresholds)
        excess, lost = sum(c.share - c.real for c in overrepresented), sum(c.real for c in missing)
        is_uneven = max(excess, lost) >= thresholds.min_affected
    return Diagnosis(
        overrepresented=tuple(sorted(overrepresented, key=lambda c: c.real - c.share)),
        missing=tuple(missing),
        has_classes=class_shares is not None,
        is_uneven=is_uneven,
        is_like_data=scores["precision"] >= thresholds.min_precision * floor["precision"],
        precision=scores["precision"],
        precision_floor=floor["precision"],
        recall=scores["recall"],
        recall_floor=floor["recall"],
    )


def affected_classes(
    classes: Sequence[ClassShare], num_samples: int, num_reference: int, thresholds: Thresholds
) -> tuple[list[ClassShare], list[ClassShare]]:
    """The over-represented classes and the missing ones."""
    level = thresholds.significance / len(classes)  # Bonferroni: one class of many may stand out by chance
    more, fewer = exact_test([c.share for c in classes], [c.real for c in classes], num_samples, num_reference)
    overrepresented, missing = [], []
    for c, p_more, p_fewer in zip(classes, more, fewer, strict=True):
        if c.share >= thresholds.max_share_ratio * c.real and p_more < level:
            overrepresented.append(c)
        elif c.share <= thresholds.min_share_ratio * c.real and p_fewer < level:
            missing.append(c)
    return overrepresented, missing


def exact_test(
    shares: Sequence[float], real_shares: Sequence[float], num_samples: int, num_reference: int
) -> tuple[np.ndarray, np.ndarray]:
    """p-values of Fisher's exact test for each class, one-sided: for too many and for too few samples, (K,) each.

    Under the null hypothesis samples and real images have the same share of the class. Given the images of the class in both
    sets, the number among the samples is hypergeometric, so the test allows for the noise of both sets.
    """
    from scipy.stats import hypergeom  # a second to import

    in_samples = np.rint(np.array(shares) * num_samples)
    in_real = np.rint(np.array(real_shares) * num_reference)
    law = hypergeom(num_samples + num_reference, in_samples + in_real, num_samples)
    return law.sf(in_samples - 1), law.cdf(in_samples)
