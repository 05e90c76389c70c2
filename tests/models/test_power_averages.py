"""Power-function averages against their definition, and reconstruction against an average updated in training."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from genai.models.ema import PowerAveraged, Snapshot, gamma_of, overlap, posthoc_average, posthoc_coefficients


class Number(nn.Module):
    """A network of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(1, dtype=torch.float64))


@pytest.mark.parametrize("std", [0.03, 0.05, 0.1, 0.25])
def test_the_profile_has_the_given_width(std: float) -> None:
    gamma = gamma_of(std)
    t = (np.arange(200_000) + 0.5) / 200_000
    density = (gamma + 1) * t**gamma / len(t)
    mean = (t * density).sum()
    assert math.sqrt(((t - mean) ** 2 * density).sum()) == pytest.approx(std, rel=1e-4)


def test_the_average_is_the_integral_it_stands_for() -> None:
    network, std, images = Number(), 0.1, 10
    average = PowerAveraged(network, std)
    values = np.sin(np.arange(1, 2001) / 100)
    for i, value in enumerate(values):
        network.value.data.fill_(value)
        average.update(network, images, (i + 1) * images)
    t = np.arange(1, 2001) / 2000
    weights = t**average.gamma
    assert float(average.network.value) == pytest.approx((weights * values).sum() / weights.sum(), abs=2e-3)


def test_overlap_is_the_integral_of_two_profiles() -> None:
    t = (np.arange(100_000) + 0.5) / 100_000 * 3
    one = np.where(t < 2, 7 * t**6 / 2**7, 0)
    other = 17 * t**16 / 3**17
    assert overlap(2, 6, 3, 16) == pytest.approx((one * other).sum() * 3 / 100_000, rel=1e-3)


def test_an_average_of_another_width_is_reconstructed_from_snapshots() -> None:
    network = Number()
    kept, wanted = [PowerAveraged(network, std) for std in (0.05, 0.1)], PowerAveraged(network, 0.07)
    snapshots = []
    for i in range(1, 4001):
        network.value.data.fill_(math.sin(i / 300) + i / 2000)
        for average in (*kept, wanted):
            average.update(network, 1, i)
        if i % 250 == 0:
            snapshots += [Snapshot(float(i), a.gamma, {k: v.clone() for k, v in a.network.state_dict().items()}) for a in kept]
    weights = posthoc_coefficients(snapshots, 4000.0, 0.07)
    assert weights.sum() == pytest.approx(1, abs=1e-3)
    rebuilt = float(posthoc_average(snapshots, 4000.0, 0.07)["value"])
    assert rebuilt == pytest.approx(float(wanted.network.value), abs=2e-3)
    assert abs(float(kept[0].network.value) - float(wanted.network.value)) > 0.02


@pytest.mark.parametrize("std", [0.0001, 0.5])
def test_a_width_without_a_profile_is_refused(std: float) -> None:
    if std > 0.28:
        with pytest.raises(ValueError, match=r"0\.01 to 0\.28"):
            gamma_of(std)
    else:
        assert gamma_of(std) > 1000
