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


def test_batch_norm_statistics_are_averaged_as_the_weights_are_and_counters_copied() -> None:
    """From mean 0 and variance 1 to 4 and 3, with a quarter of the old average kept: 3 and 2.5."""
    network = nn.BatchNorm1d(2)
    averaged = Averaged(network, halflife_kimg=1.0, rampup=None)
    network.running_mean.fill_(4.0)
    network.running_var.fill_(3.0)
    network.num_batches_tracked.fill_(7)
    averaged.update(network, images=2000, images_seen=2000)
    torch.testing.assert_close(averaged.network.running_mean, torch.full((2,), 3.0))
    torch.testing.assert_close(averaged.network.running_var, torch.full((2,), 2.5))
    assert averaged.network.num_batches_tracked == 7
    torch.testing.assert_close(network.running_mean, torch.full((2,), 4.0))


def test_a_half_life_of_zero_copies() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    averaged = Averaged(network, halflife_kimg=0.0)
    network(torch.randn(8, 2) + 3)
    with torch.no_grad():
        network[0].weight.add_(1.0)
    averaged.update(network, images=8, images_seen=8)
    for key, value in network.state_dict().items():
        assert torch.equal(averaged.network.state_dict()[key], value), key


def test_it_stays_in_eval_mode_and_is_not_trained() -> None:
    network = nn.Sequential(nn.BatchNorm1d(2))
    averaged = Averaged(network, halflife_kimg=1.0)
    averaged.train()
    assert not averaged.network[0].training
    assert not any(p.requires_grad for p in averaged.parameters())
    before = averaged.network[0].running_mean.clone()
    averaged(torch.randn(8, 2) + 3)
    assert torch.equal(averaged.network[0].running_mean, before)
