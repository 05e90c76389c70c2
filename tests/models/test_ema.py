import pytest
import torch
from torch import nn

from genai.models.ema import Averaged


def test_half_life_halves_the_distance() -> None:
    network = nn.Linear(3, 2)
    averaged = Averaged(network, halflife_kimg=1.0, rampup=None)
    before = averaged.network.weight.clone()
    with torch.no_grad():
        network.weight.add_(1.0)
    for _ in range(10):
        averaged.update(network, images=100, images_seen=5000)
    torch.testing.assert_close(averaged.network.weight - before, torch.full((2, 3), 0.5))


def test_decay_does_not_depend_on_the_batch_size() -> None:
    averaged = Averaged(nn.Linear(1, 1), halflife_kimg=2.0, rampup=None)
    assert averaged.decay(64, 10_000) ** 2 == pytest.approx(averaged.decay(128, 10_000))


def test_rampup_shortens_the_early_half_life() -> None:
    averaged = Averaged(nn.Linear(1, 1), halflife_kimg=10.0, rampup=0.05)
    assert averaged.decay(50, images_seen=1000) == pytest.approx(0.5)  # half-life 0.05 * 1000 = 50 images
    assert averaged.decay(10_000, images_seen=10**9) == pytest.approx(0.5)


def test_it_stays_in_eval_mode_and_copies_buffers() -> None:
    network = nn.Sequential(nn.BatchNorm1d(2))
    averaged = Averaged(network, halflife_kimg=1.0)
    averaged.train()
    network(torch.randn(8, 2) + 3)
    averaged.update(network, images=8, images_seen=8)
    assert not averaged.network[0].training
    torch.testing.assert_close(averaged.network[0].running_mean, network[0].running_mean)
    assert not any(p.requires_grad for p in averaged.parameters())
