"""Our scores against closed forms, torch-fidelity and torchmetrics, on the same features."""

import math

import numpy as np
import pytest
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric
from torchmetrics.image.fid import FrechetInceptionDistance

from genai.metrics.classes import attribute_agreement, class_counts, class_divergence, count_modes, shares, uniform_divergence
from genai.metrics.fid import frechet_distance
from genai.metrics.inception_score import marginal_divergence
from genai.metrics.kid import kernel_distance
from genai.metrics.precision_recall import share_inside, squared_radii
from tests.metrics.helpers import random_features

SAMPLES = random_features(1200, 32, seed=1, shift=0.1)
REFERENCE = random_features(1100, 32, seed=2)


def with_statistics(mean: torch.Tensor, root: torch.Tensor, num: int = 500) -> torch.Tensor:
    """Features whose sample mean and unbiased covariance are exactly `mean` and root^T root."""
    x = torch.randn(num, len(mean), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    q = torch.linalg.qr(x - x.mean(dim=0)).Q
    return q * math.sqrt(num - 1) @ root + mean


@pytest.mark.parametrize("num", [1100, 20])  # more and fewer images than features
def test_fid_equals_torch_fidelity_and_torchmetrics(num):
    samples, reference = SAMPLES.pool[:num], REFERENCE.pool
    statistics = [fid_features_to_statistics(x) for x in (samples.double(), reference.double())]
    theirs = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    identity = torch.nn.Identity()
    identity.num_features = 32
    metric = FrechetInceptionDistance(identity).set_dtype(torch.float64)
    metric.update(reference.double(), real=True)
    metric.update(samples.double(), real=False)
    assert frechet_distance(samples, reference) == pytest.approx(theirs, rel=1e-4)
    assert frechet_distance(samples, reference) == pytest.approx(metric.compute().item(), rel=1e-4)


def test_fid_of_isotropic_gaussians():
    """|mu|^2 + D (s_1 - s_2)^2."""
    eye = torch.eye(5, dtype=torch.float64)
    x = with_statistics(torch.zeros(5, dtype=torch.float64), 2 * eye)
    y = with_statistics(torch.full((5,), 3.0, dtype=torch.float64), 0.5 * eye)
    assert frechet_distance(x, y) == pytest.approx(5 * 9 + 5 * 1.5**2, rel=1e-10)


def test_fid_of_commuting_gaussians():
    """With the same eigenvectors: sum of (sqrt(l_1) - sqrt(l_2))^2; a covariance that is singular included."""
    basis = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))).Q
    roots = torch.tensor([[1.0, 2.0, 3.0, 0.0], [2.0, 0.5, 3.0, 0.0]], dtype=torch.float64)
    zero = torch.zeros(4, dtype=torch.float64)
    x, y = (with_statistics(zero, root[:, None] * basis.T) for root in roots)
    assert frechet_distance(x, y) == pytest.approx(1 + 1.5**2, rel=1e-6)


def test_fid_of_a_set_with_itself_is_zero_and_it_is_symmetric():
    assert frechet_distance(SAMPLES.pool, SAMPLES.pool) == pytest.approx(0, abs=1e-6)
    there, back = frechet_distance(SAMPLES.pool, REFERENCE.pool), frechet_distance(REFERENCE.pool, SAMPLES.pool)
    assert there == pytest.approx(back, rel=1e-9)


def test_inception_score_equals_torch_fidelity():
    theirs = isc_features_to_metric(SAMPLES.logits)
    ours = marginal_divergence(SAMPLES.logits)
    assert ours.value == pytest.approx(theirs["inception_score_mean"], rel=1e-10)
    assert ours.std == pytest.approx(theirs["inception_score_std"], rel=1e-8)


def test_inception_score_of_certain_and_ignorant_networks():
    """Evenly used certain classes score their number, indifference scores 1."""
    logits = 100 * torch.eye(4).repeat(1000, 1)
    assert marginal_divergence(logits, splits=1).value == pytest.approx(4)
    assert marginal_divergence(torch.zeros(100, 4)).value == pytest.approx(1)


def test_kid_equals_torch_fidelity():
    theirs = kid_features_to_metric(SAMPLES.pool.double(), REFERENCE.pool.double(), verbose=False, kid_subsets=10)
    ours = kernel_distance(SAMPLES.pool, REFERENCE.pool, subsets=10)
    assert ours.value == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-8)
    assert ours.std == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-6)


@pytest.mark.parametrize("save_cpu_ram", [True, False])
def test_precision_and_recall_equal_torch_fidelity(save_cpu_ram):
    theirs = prc_features_to_metric(SAMPLES.pool, REFERENCE.pool, verbose=False, save_cpu_ram=save_cpu_ram)
    assert share_inside(SAMPLES.pool, REFERENCE.pool) == pytest.approx(theirs["precision"], rel=1e-4)
    assert share_inside(REFERENCE.pool, SAMPLES.pool) == pytest.approx(theirs["recall"], rel=1e-4)


def test_radii_are_distances_to_the_kth_neighbour():
    points = SAMPLES.pool[:200].double()
    expected = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").sort(dim=1).values[:, 3].square()
    torch.testing.assert_close(squared_radii(points, 3), expected, rtol=1e-9, atol=1e-12)


def test_precision_sees_bad_samples_and_recall_sees_missing_modes():
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(200, 2, generator=generator) + offset for offset in (-50, 50))
    more_left = torch.randn(400, 2, generator=generator) - 50
    assert share_inside(torch.cat([left, right]), more_left) < 0.6  # recall of the samples `more_left`
    assert share_inside(more_left, torch.cat([left, right])) > 0.9  # and their precision


def test_class_counts_shares_modes_and_divergence():
    logits = torch.eye(4)[[0, 0, 0, 1]]
    counts = class_counts(logits)
    assert counts.tolist() == [3, 1, 0, 0]
    assert shares(counts) == [0.75, 0.25, 0, 0]
    assert count_modes(counts) == 2
    assert class_divergence(counts, counts) == 0
    real = torch.tensor([1, 1, 1, 1])
    assert class_divergence(counts, real) == pytest.approx(0.75 * math.log(3) + 0.25 * math.log(1))
    assert class_divergence(torch.tensor([1, 1]), torch.tensor([8, 0])) == pytest.approx(
        0.5 * math.log(0.5) + 0.5 * math.log(0.5 / (0.5 / 8))
    )


def test_agreement_is_the_share_of_images_that_show_each_attribute_as_labelled():
    logits = torch.tensor([[3.0, -1.0], [2.0, 0.5], [-0.1, -2.0], [1.0, -3.0]])
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    assert attribute_agreement(logits, labels) == [0.5, 0.75]


def test_divergence_from_uniform_is_0_for_all_classes_alike_and_ln_k_for_one():
    assert uniform_divergence(torch.full((1000,), 26)) == pytest.approx(0, abs=1e-12)
    assert uniform_divergence(26_000 * torch.eye(1000, dtype=torch.int64)[7]) == pytest.approx(math.log(1000))
    assert uniform_divergence(torch.tensor([3, 3, 0, 0])) == pytest.approx(math.log(2))


def test_a_perfect_sampler_of_stacked_mnist_diverges_from_uniform_by_its_number_of_samples():
    """(K - 1) / 2N: what a score of 26,000 samples is to be read against."""
    generator = torch.Generator().manual_seed(0)
    counts = torch.bincount(torch.randint(1000, (26_000,), generator=generator), minlength=1000)
    assert uniform_divergence(counts) == pytest.approx(999 / 52_000, rel=0.1)


def all_scores() -> list[float]:
    return [
        frechet_distance(SAMPLES.pool, REFERENCE.pool),
        *marginal_divergence(SAMPLES.logits),
        *kernel_distance(SAMPLES.pool, REFERENCE.pool, subsets=2),
        share_inside(SAMPLES.pool, REFERENCE.pool),
        share_inside(REFERENCE.pool, SAMPLES.pool),
    ]


def test_scores_ignore_autocast():
    plain = all_scores()
    with torch.autocast("cpu", torch.bfloat16):
        assert all_scores() == plain


def test_scores_neither_read_nor_touch_the_global_generators():
    states = torch.get_rng_state(), np.random.get_state()[1]
    plain = all_scores()
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        assert all_scores() == plain
