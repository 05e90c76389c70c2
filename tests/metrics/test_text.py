"""Scores of text models against brute force."""

import numpy as np
import pytest

from genai.metrics.registry import all_metrics, text_metrics
from genai.metrics.text import TextComparison, TextLikelihood, compute_text_scores, longest_common, shared


def brute_force(samples: list[bytes], training: bytes) -> int:
    parts = {s[i:j] for s in samples for i in range(len(s)) for j in range(i + 1, len(s) + 1)}
    return max((len(part) for part in parts if part in training), default=0)


@pytest.mark.parametrize("seed", range(5))
def test_the_longest_common_string_is_that_of_brute_force(seed: int) -> None:
    generator = np.random.default_rng(seed)
    samples = [bytes(generator.choice(list(b"ab \xff"), 30).tolist()) for _ in range(3)]
    training = bytes(generator.choice(list(b"ab \xff"), 200).tolist())
    found = longest_common(samples, training)
    assert len(found) == brute_force(samples, training)
    assert found in training
    assert shared(samples, training, len(found) + 1) is None


def test_strings_at_the_ends_and_whole_texts_are_found() -> None:
    assert longest_common([b"xyz"], b"abc") == b""
    assert longest_common([], b"abc") == b""
    assert longest_common([b"--end of it"], b"this is the end of it") == b"end of it"
    assert longest_common([b"whole"], b"whole") == b"whole"


def test_scores_of_a_likelihood_and_of_repetition() -> None:
    sets = TextComparison(TextLikelihood(8 * np.log(2), 4, 2), [b"a b c a b c a b c"], b"b c a")
    scores = compute_text_scores(sets)
    assert scores["bits_per_byte"] == pytest.approx(4)
    assert scores["nats_per_token"] == pytest.approx(2 * np.log(2))
    assert scores["distinct_ngrams"] == pytest.approx(100 * 3 / 7)
    assert scores["longest_shared"] == len(b"b c a")


def test_metrics_of_text_are_not_among_those_of_images() -> None:
    assert {metric.name for metric in text_metrics()} == set(scores_of_nothing())
    assert not {metric.name for metric in text_metrics()} & {metric.name for metric in all_metrics()}


def scores_of_nothing() -> dict[str, float]:
    return compute_text_scores(TextComparison(TextLikelihood(1.0, 1, 1), [], b""))
