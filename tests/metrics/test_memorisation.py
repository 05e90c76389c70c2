"""Nearest neighbours and membership inference: planted copies are found, exchangeable images are not called copied."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from genai.metrics.memorisation import auc, membership, nearest_share, share_of_copies


def nearest_in(points: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    distances = np.linalg.norm(queries[:, None] - points[None], axis=2)
    return distances.min(axis=1), distances.argmin(axis=1)


def test_independent_samples_are_at_chance_and_copies_are_not() -> None:
    random = np.random.default_rng(0)
    p_values = []
    for seed in range(20):
        train, held, samples = random.normal(size=(60, 3)), random.normal(size=(20, 3)), random.normal(size=(100, 3))
        near, far = nearest_in(train, samples), nearest_in(held, samples)
        found = nearest_share(near[0], near[1], far[0], far[1], (60, 20), seed)
        assert found.chance == 0.75
        assert found.low < 0.75 < found.high
        p_values.append(found.p_value)
    assert np.mean(np.array(p_values) < 0.05) <= 0.15
    copies = train[random.integers(60, size=100)] + 0.01 * random.normal(size=(100, 3))
    near, far = nearest_in(train, copies), nearest_in(held, copies)
    found = nearest_share(near[0], near[1], far[0], far[1], (60, 20))
    assert found.share == 1
    assert found.p_value < 0.001


def test_a_copy_is_much_nearer_to_one_image_than_to_the_next() -> None:
    assert share_of_copies(np.array([[0.0, 5.0], [1.0, 2.0], [1.0, 3.1], [2.0, 2.0]])) == 0.5


def test_auc_equals_scikit_learn() -> None:
    random = np.random.default_rng(0)
    members, others = random.normal(size=30).round(1), random.normal(0.5, size=20).round(1)  # with ties
    expected = roc_auc_score([0] * 30 + [1] * 20, [*members, *others])
    assert auc(members, others) == pytest.approx(expected)
    assert auc(np.zeros(3), np.zeros(4)) == 0.5


def test_membership_of_known_and_of_equal_scores() -> None:
    random = np.random.default_rng(0)
    known = membership(random.normal(size=300), random.normal(3, size=300))
    assert known.low > 0.95
    assert known.found > 0.5
    assert known.p_value < 1e-6
    alike = membership(random.normal(size=300), random.normal(size=300))
    assert alike.low < 0.5 < alike.high
