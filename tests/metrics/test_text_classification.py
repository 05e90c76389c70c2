"""Text classifiers on texts whose answer is known, and temperature scaling against its definition."""

import numpy as np
import pytest
import torch

from genai.metrics.text_classification import TEXT_BASELINES, Labelled, fitted_temperature, text_baseline


def texts(num: int, seed: int) -> Labelled:
    """Words of two alphabets, with a tenth of the words from the other one."""
    rng = np.random.default_rng(seed)
    words = [["ab", "abba", "bab", "aab"], ["cd", "dcd", "ccd", "cdd"]]
    labels = rng.integers(2, size=num)
    rows = [" ".join(words[int(label) ^ int(rng.random() < 0.1)][rng.integers(4)] for _ in range(8)) for label in labels]
    return Labelled(rows, labels)


@pytest.mark.parametrize("name", TEXT_BASELINES)
def test_baselines_separate_two_languages(name: str) -> None:
    splits = {"train": texts(60, 0), "val": texts(40, 1), "test": texts(60, 2)}
    found = text_baseline(name, splits, 2)
    torch.testing.assert_close(found.test.exp().sum(dim=1), torch.ones(60, dtype=torch.float64))
    assert (found.test.argmax(dim=1).numpy() == splits["test"].labels).mean() > 0.95
    assert found.choice


def test_the_temperature_undoes_a_factor_of_the_logits() -> None:
    """Labels drawn from softmax(logits); the classifier says 20 times the logits."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20_000, 2, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(dim=1), 1, generator=generator)[:, 0]
    assert fitted_temperature(20 * logits, labels) == pytest.approx(20, rel=0.15)


@pytest.mark.parametrize("name", TEXT_BASELINES)
def test_a_class_without_training_texts_is_never_chosen_and_shifts_no_other(name: str) -> None:
    splits = {split: texts(num, seed) for split, num, seed in (("train", 60, 0), ("val", 40, 1), ("test", 60, 2))}
    splits = {split: Labelled(part.texts, 2 * part.labels) for split, part in splits.items()}  # class 1 of 3 is missing
    found = text_baseline(name, splits, 3)
    assert (found.test.argmax(dim=1).numpy() == splits["test"].labels).mean() > 0.95
