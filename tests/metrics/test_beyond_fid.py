"""Density, coverage, extrapolated FID, haze and the two-sample test against references and known cases."""

import numpy as np
import pytest
import torch

from genai.data.digits import Digits
from genai.metrics.density_coverage import density_and_coverage
from genai.metrics.features import Features, load_extractor
from genai.metrics.fid import frechet_distance
from genai.metrics.fid_infinity import extrapolated_distance
from genai.metrics.haze import haze
from genai.metrics.precision_recall import share_inside
from genai.metrics.protocol import Comparison
from genai.metrics.two_sample import classifier_accuracy
from tests.metrics.helpers import random_features, random_images, write_network

SAMPLES = random_features(600, 16, seed=1, shift=0.1).pool
REFERENCE = random_features(500, 16, seed=2).pool


@pytest.mark.parametrize("k", [3, 5])
def test_density_and_coverage_equal_prdc(k: int, capsys: pytest.CaptureFixture[str]) -> None:
    prdc = pytest.importorskip("prdc")
    theirs = prdc.compute_prdc(REFERENCE.double().numpy(), SAMPLES.double().numpy(), nearest_k=k)
    ours = density_and_coverage(SAMPLES, REFERENCE, k)
    assert ours[0] == pytest.approx(theirs["density"], abs=2e-3)  # prdc excludes the border of a ball
    assert ours[1] == pytest.approx(theirs["coverage"], abs=2e-3)


def test_density_and_coverage_of_known_sets() -> None:
    """Samples far from all real images, and all samples on one real image."""
    real = torch.arange(10.0)[:, None]
    assert density_and_coverage(real + 1000, real, 1) == (0, 0)
    number, covered = density_and_coverage(torch.full((5, 1), 4.0), real, 1)
    assert number == 3  # the balls of 3, 4 and 5, of radius 1
    assert covered == pytest.approx(0.3)


def test_extrapolation_removes_the_bias_of_few_samples() -> None:
    """Two sets of one distribution: FID of N samples falls as 1 / N, its extrapolation is about the same for any N."""
    generator = torch.Generator().manual_seed(0)
    reference = torch.randn(20_000, 16, generator=generator)
    few, many = (torch.randn(n, 16, generator=generator) for n in (1000, 4000))
    assert frechet_distance(few, reference) > 3 * frechet_distance(many, reference)
    assert abs(extrapolated_distance(few, reference)) < frechet_distance(few, reference) / 4
    assert abs(extrapolated_distance(many, reference)) < 0.01


def test_extrapolation_is_the_intercept_of_a_least_squares_line() -> None:
    order = np.random.RandomState(2020).permutation(600)
    sizes = np.linspace(60, 600, 10).astype(int)
    values = np.array([frechet_distance(SAMPLES[order[:size]], REFERENCE) for size in sizes])
    x = 1 / sizes - np.mean(1 / sizes)
    slope = (x * values).sum() / (x * x).sum()
    assert extrapolated_distance(SAMPLES, REFERENCE) == pytest.approx(values.mean() - slope * np.mean(1 / sizes), rel=1e-9)


def test_haze_is_the_difference_of_the_shares_of_nearly_black_pixels(tmp_path) -> None:
    network = load_extractor(str(write_network(tmp_path / "small.safetensors")))
    samples, real = torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    samples[0, 0, :, :] = 20
    samples[1, 0, 0, :2] = torch.tensor([1, 21])
    real[0, 0, 0, 0] = 2
    sets = Comparison(network(samples), network(real), None, network, None)  # type: ignore[arg-type]
    assert haze(sets) == pytest.approx(0.5 - 1 / 256)
    bare = Features(sets.generated.pool, None)
    assert haze(Comparison(bare, bare, None, network, None)) is None  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_classifier_tells_a_shifted_set_apart_and_not_the_same_one() -> None:
    """Images of one distribution: accuracy 0.5 within its spread. Images with a faint pattern: above 0.9."""
    images = random_images(400, seed=3)
    same = classifier_accuracy(images[:200], images[200:])
    assert same.value == pytest.approx(0.5, abs=0.12)
    other = images[:200].clone()
    other[:, :, ::2] //= 2
    shifted = classifier_accuracy(other, images[200:])
    assert shifted.value > 0.9
    assert shifted.std is not None
    assert classifier_accuracy(other, images[200:]) == shifted


def test_images_in_the_order_of_their_classes_are_not_told_apart() -> None:
    images, labels = Digits().split("train").batch(range(1000))
    accuracy = classifier_accuracy(images[labels.argsort()], Digits().split("test").batch(range(350)).images, seeds=(0,))
    assert accuracy.value < 0.62


def test_duplicates_lie_in_their_own_manifold() -> None:
    x = torch.randn(200, 64, generator=torch.Generator().manual_seed(0)).repeat_interleave(4, 0)
    assert share_inside(x, x, 3) == 1
    assert density_and_coverage(x, x, 3)[1] == 1
