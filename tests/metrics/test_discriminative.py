"""Bayes' rule, calibration and the baselines against closed forms."""

import numpy as np
import pytest
import torch

from genai.data.arrays import balanced
from genai.data.digits import Digits
from genai.metrics.discriminative import BASELINES, baseline, classification, posterior


def test_bayes_rule_of_two_gaussians_is_a_logistic_function() -> None:
    """p(x|y) = N(+-1, 1) with shares q and 1 - q: the log odds are 2 x + ln q / (1 - q)."""
    x = torch.linspace(-3, 3, 13, dtype=torch.float64)
    density = torch.stack([torch.distributions.Normal(mean, 1.0).log_prob(x) for mean in (1.0, -1.0)], dim=1)
    expected = torch.sigmoid(2 * x + np.log(0.3 / 0.7))
    assert torch.allclose(posterior(density, torch.tensor([0.3, 0.7], dtype=torch.float64))[:, 0], expected, atol=1e-9)


def test_calibration_error_is_confidence_less_accuracy() -> None:
    probabilities = torch.tensor([[0.9, 0.1]]).repeat(10, 1)
    labels = torch.tensor([0] * 6 + [1] * 4)
    scores = classification(probabilities, labels)
    assert scores.accuracy == pytest.approx(0.6)
    assert scores.calibration_error == pytest.approx(0.3, abs=1e-6)


def test_training_images_are_taken_in_turn_from_each_class() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2, 0, 2])
    assert balanced(labels, 5).tolist() == [0, 1, 3, 4, 5]  # two, two and one
    assert balanced(labels, 100).tolist() == list(range(8))


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_learn_digits(name: str) -> None:
    """What each reaches on 350 test digits, less three points; probabilities sum to one."""
    data = Digits()
    train, test = data.split("train"), data.split("test")
    probabilities = baseline(name, train.images, train.labels, test.images, 10)
    assert probabilities.sum(1).numpy() == pytest.approx(1, abs=1e-5)
    least = {"naive Bayes": 0.83, "QDA": 0.95, "logistic regression": 0.93}[name]
    assert classification(probabilities, torch.as_tensor(test.labels)).accuracy > least


def test_a_baseline_keeps_the_columns_of_classes_without_training_images() -> None:
    data = Digits(exclude=[7])
    train, test = data.split("train"), data.split("test")
    probabilities = baseline("logistic regression", train.images, train.labels, test.images, 10)
    assert probabilities.shape == (len(test), 10)
    assert (probabilities[:, 7] == 0).all()
    assert classification(probabilities, torch.as_tensor(test.labels)).accuracy > 0.8
