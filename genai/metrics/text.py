"""Scores of text models: bits per byte, the variety of samples and what they copy from the training text."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from genai.metrics.registry import text_metric, text_metrics
from genai.metrics.tables import WrappedTable

LN2 = float(np.log(2))
BASE = 1_000_003  # of the hash of a string, modulo 2^64
ORDER = 3  # of the n-grams of words


class TextLikelihood(NamedTuple):
    """-ln p of a text in nats, and its size in tokens and bytes."""

    nats: float
    num_tokens: int
    num_bytes: int


@dataclass(frozen=True)
class TextComparison:
    """What a text metric is computed from.

    Attributes:
        likelihood: of the split; for the floor, of as much training text.
        samples: bytes of the samples; for the floor, of as many and as long excerpts of the split.
        training: the training text.
    """

    likelihood: TextLikelihood
    samples: Sequence[bytes]
    training: bytes


@dataclass(frozen=True)
class TextProtocol:
    """Everything that the scores of a text model depend on besides the model.

    Attributes:
        data, fingerprint, split: the text: dataset, hash of its tokens, split.
        tokenizer, vocab_size, context_length: how it was read, in windows of context_length + 1 tokens side by side; of data by
            document, the first context_length tokens of each document.
        num_tokens, num_bytes: of the split, or of what was scored of its documents.
        num_samples, sample_tokens, seed: of the samples, from the start of a text at temperature 1.
    """

    data: str
    fingerprint: str
    split: str
    tokenizer: str
    vocab_size: int
    context_length: int
    num_tokens: int
    num_bytes: int
    num_samples: int
    sample_tokens: int
    seed: int

    def describe(self) -> str:
        """One line of text."""
        return (
            f"{self.num_tokens:,} tokens ({self.num_bytes:,} bytes) of {self.data}/{self.split}, {self.tokenizer} "
            f"({self.vocab_size}), context {self.context_length}; {self.num_samples} samples of {self.sample_tokens} tokens "
            f"(seed {self.seed}), temperature 1"
        )


@dataclass(frozen=True)
class TextResult:
    """Scores of a text model, beside those of real text.

    Attributes:
        scores: of the model, by name.
        floor: bits per byte of training text of the same length, which the model has seen; the others of excerpts of the
            split, which share strings with the training text too.
        protocol: what the scores depend on.
    """

    scores: dict[str, float]
    floor: dict[str, float]
    protocol: TextProtocol

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"scores": self.scores, "floor": self.floor, "protocol": asdict(self.protocol)}

    def table(self) -> WrappedTable:
        """The scores as a table."""
        rows = [[metric.heading, metric.text(self.scores), metric.text(self.floor)] for metric in text_metrics()]
        title = f"Text: {self.protocol.data}, {self.protocol.split} split"
        return WrappedTable(["metric", "model", "real text"], rows, title=title)


@text_metric(title="bits per byte", better="lower", format=".3f", paper="arXiv:1808.04444", order=1)
def bits_per_byte(sets: TextComparison) -> float:
    """-log2 p of the text, divided by its bytes, so that tokenizers can be compared."""
    return sets.likelihood.nats / LN2 / sets.likelihood.num_bytes


@text_metric(title="nats per token", better="lower", format=".3f", paper="arXiv:1808.04444", order=2)
def nats_per_token(sets: TextComparison) -> float:
    """-ln p of the text, divided by its tokens; the perplexity of a token is exp of it."""
    return sets.likelihood.nats / sets.likelihood.num_tokens


@text_metric(title="distinct 3-grams of words, %", better="higher", format=".1f", paper="arXiv:1510.03055", order=3)
def distinct_ngrams(sets: TextComparison) -> float:
    """Distinct 3-grams of words of all samples, as a percentage of all 3-grams: low if samples repeat themselves."""
    grams = [gram for sample in sets.samples for gram in ngrams(sample.split())]
    return 100 * len(set(grams)) / max(len(grams), 1)


@text_metric(title="longest string in the training text, bytes", better="lower", format="d", paper="arXiv:2012.07805", order=4)
def longest_shared(sets: TextComparison) -> float:
    """The longest string of any sample that is in the training text; copying shows as a value far above that of real text."""
    return float(len(longest_common(sets.samples, sets.training)))


def compute_text_scores(sets: TextComparison) -> dict[str, float]:
    """Every text metric by name."""
    values = {metric.name: metric.compute(sets) for metric in text_metrics()}
    return {name: float(value) for name, value in values.items() if isinstance(value, int | float)}


def ngrams(words: Sequence[bytes]) -> list[tuple[bytes, ...]]:
    """The n-grams of a text's words."""
    return list(zip(*(words[i:] for i in range(ORDER)), strict=False))


def longest_common(samples: Sequence[bytes], training: bytes) -> bytes:
    """The longest string that is in one of the samples and in `training`: binary search over its length, by hashes."""
    low, high, best = 0, max(map(len, samples), default=0), b""
    while low < high:
        length = (low + high + 1) // 2
        found = shared(samples, training, length)
        if found is None:
            high = length - 1
        else:
            low, best = length, found
    return best


def shared(samples: Sequence[bytes], training: bytes, length: int) -> bytes | None:
    """A string of `length` bytes that is in a sample and in `training`; None if there is none."""
    known = np.sort(hashes(training, length))
    for sample in samples:
        mine = hashes(sample, length)
        if not len(known) or not len(mine):
            continue
        at = np.searchsorted(known, mine).clip(max=len(known) - 1)
        for start in np.flatnonzero(known[at] == mine):
            if sample[start : start + length] in training:  # not only the hash agrees
                return sample[start : start + length]
    return None


def hashes(text: bytes, length: int) -> np.ndarray:
    """A hash of each string of `length` bytes in `text`: (len(text) - length + 1,) uint64."""
    if len(text) < length:
        return np.empty(0, np.uint64)
    values = np.frombuffer(text, np.uint8).astype(np.uint64) + np.uint64(1)
    powers, inverses = (np.cumprod(np.full(len(values), base, np.uint64)) for base in (BASE, pow(BASE, -1, 2**64)))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(values * powers)])  # all products wrap around at 2^64
    return (sums[length:] - sums[:-length]) * inverses[: len(values) - length + 1]
