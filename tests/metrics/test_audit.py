"""Corrected shares: exact where the confusion matrix is known, calibrated intervals and tests, planted differences."""

import numpy as np
import pytest
from scipy.stats import binomtest

from genai.errors import UserError
from genai.metrics.audit import Cells, audit_cells, confusion_counts, corrected_shares, holm

CONFUSION = np.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.0, 0.0, 1.0]])
NAMES = ("a", "b", "c")


def test_correction_inverts_the_confusion_matrix() -> None:
    true = np.array([0.5, 0.3, 0.2])
    found = corrected_shares((true @ CONFUSION)[None], CONFUSION[None])[0]
    np.testing.assert_allclose(found, true, atol=1e-4)
    np.testing.assert_allclose(found, np.linalg.solve(CONFUSION.T, true @ CONFUSION), atol=1e-4)


def test_corrected_shares_stay_in_the_simplex() -> None:
    """The inverse of the confusion matrix would give a negative share."""
    found = corrected_shares(np.array([[0, 100, 0]]), CONFUSION[None])[0]
    assert np.linalg.solve(CONFUSION.T, [0.0, 1.0, 0.0]).min() < 0
    assert found.min() >= 0
    assert abs(found.sum() - 1) < 1e-9


def test_every_cell_has_a_row_of_the_confusion_matrix() -> None:
    counts = confusion_counts(np.array([0, 0, 1]), np.array([0, 1, 1]), 3)
    assert counts.tolist() == [[2, 1, 0], [0, 2, 0], [0, 0, 1]]


def test_holm_adjusts_p_values() -> None:
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03])), [0.03, 0.06, 0.06])


def simulated(shares: list[float], seed: int, num: int = 500) -> Cells:
    """Samples with these shares, balanced training images, and 300 test images of a network with CONFUSION."""
    random = np.random.default_rng(seed)
    test, truth = random.integers(3, size=300), random.choice(3, num, p=shares)
    read = [np.array([random.choice(3, p=CONFUSION[k]) for k in labels]) for labels in (test, truth)]
    return Cells(NAMES, np.arange(900) % 3, test, *read)


def test_a_difference_is_found_and_equal_shares_are_not_called_different() -> None:
    equal = [audit_cells(simulated([1 / 3] * 3, seed)) for seed in range(20)]
    assert sum(found.p_value < 0.05 for found in equal) <= 3  # one is expected
    raw_error = np.mean([np.abs(found.predicted - 1 / 3).max() for found in equal])
    error = np.mean([np.abs(found.share - 1 / 3).max() for found in equal])
    assert error < 0.7 * raw_error
    covered = np.mean([(found.low <= 1 / 3) & (found.high >= 1 / 3) for found in equal])
    assert covered > 0.85
    planted = audit_cells(simulated([0.5, 0.25, 0.25], 0))
    assert planted.p_value < 0.01
    assert planted.p_values[0] < 0.01
    assert planted.low[0] > 1 / 3


def test_shares_are_compared_with_those_expected() -> None:
    cells = simulated([0.5, 0.25, 0.25], 1)
    assert audit_cells(cells, expected=(2, 1, 1)).p_value > 0.05


def test_one_of_many_classes_can_be_significant() -> None:
    random = np.random.default_rng(0)
    test = np.repeat(np.arange(60), 5)
    samples = np.where(random.random(500) < 0.5, 7, random.integers(60, size=500))
    found = audit_cells(Cells([str(k) for k in range(60)], np.arange(6000) % 60, test, test, samples))
    assert found.p_values[7] < 0.05
    assert (np.delete(found.p_values, 7) >= 0.05).all()


def test_a_cell_without_samples_has_the_exact_limit() -> None:
    """No sample of 100 rules out a share of 3.6 %, not a share of 1 %."""
    labels, samples = np.arange(900) % 3, np.zeros(100, dtype=np.int64)
    found = audit_cells(Cells(NAMES, labels, labels, labels, samples))
    exact = binomtest(0, 100).proportion_ci(method="exact").high
    np.testing.assert_allclose(found.high[1:], exact)
    np.testing.assert_allclose(found.low, [1 - exact, 0, 0])
    missed = np.where(np.arange(900) % 6 == 1, 0, labels)  # the network takes half of class 1 for class 0
    np.testing.assert_allclose(audit_cells(Cells(NAMES, labels, labels, missed, samples)).high[1], 2 * exact, rtol=0.02)


def test_too_many_classes_are_refused() -> None:
    labels = np.arange(1000)
    with pytest.raises(UserError, match="at most 100"):
        audit_cells(Cells([str(k) for k in labels], labels, labels, labels, labels))
