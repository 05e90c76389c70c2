"""Preconditioning, noise levels and weights against their closed forms."""

import math

import pytest
import torch

from genai.models.diffusion.noise import LogNormal, LogUniform, UniformTime, stratified_uniform
from genai.models.diffusion.preconditioning import EDM, Velocity, XPrediction
from genai.models.diffusion.weighting import MinSNR, NetworkOutput, VelocityError

SIGMA = torch.tensor([0.01, 0.3, 1.0, 20.0], dtype=torch.float64)


def test_edm_has_input_and_target_of_unit_variance() -> None:
    """EDM, appendix B.6: c_in x has variance 1, and so has (x_0 - c_skip x) / c_out."""
    sigma_data = 0.6
    s = EDM(sigma_data)(SIGMA)
    torch.testing.assert_close(s.c_in**2 * (sigma_data**2 + SIGMA**2), torch.ones_like(SIGMA))
    residual = (1 - s.c_skip) ** 2 * sigma_data**2 + s.c_skip**2 * SIGMA**2
    torch.testing.assert_close(residual / s.c_out**2, torch.ones_like(SIGMA))


def test_edm_weight_is_equation_8_of_the_paper() -> None:
    sigma_data = 0.6
    weight = NetworkOutput()(SIGMA, EDM(sigma_data)(SIGMA))
    torch.testing.assert_close(weight, (SIGMA**2 + sigma_data**2) / (SIGMA * sigma_data) ** 2)


def test_velocity_recovers_the_image_from_the_true_velocity() -> None:
    x_0, n = torch.randn(4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    x = x_0 + SIGMA * n
    s = Velocity()(SIGMA)
    t = SIGMA / (1 + SIGMA)
    torch.testing.assert_close(s.c_in * x, (1 - t) * x_0 + t * n)
    torch.testing.assert_close(s.c_skip * x + s.c_out * (n - x_0), x_0)


def test_errors_of_image_and_velocity_are_weighted_alike() -> None:
    """For a flow, 1 / c_out^2 is the weight that makes the image's error the velocity's, whatever is predicted."""
    flow = NetworkOutput()(SIGMA, Velocity()(SIGMA))
    torch.testing.assert_close(VelocityError(sigma_min=0.0)(SIGMA, XPrediction()(SIGMA)), flow)


def test_min_snr_is_capped() -> None:
    torch.testing.assert_close(MinSNR(5.0)(SIGMA, EDM()(SIGMA)), torch.tensor([5.0, 5.0, 1.0, 1 / 400], dtype=torch.float64))


def test_x_prediction_is_the_network_itself() -> None:
    s = XPrediction(0.5)(SIGMA)
    assert bool((s.c_skip == 0).all())
    assert bool((s.c_out == 1).all())


@pytest.mark.parametrize(
    ("distribution", "median"), [(LogNormal(-1.2, 1.2), math.exp(-1.2)), (LogUniform(0.01, 100.0), 1.0), (UniformTime(), 1.0)]
)
def test_noise_levels_have_their_median_and_rise(distribution, median: float) -> None:
    levels = distribution(torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64))
    assert float(levels[1]) == pytest.approx(median)
    assert bool((levels.diff() > 0).all())


def test_log_normal_levels_are_log_normal() -> None:
    logs = LogNormal(-1.0, 0.7)(stratified_uniform(10_000, torch.device("cpu")).double()).log()
    assert float(logs.mean()) == pytest.approx(-1.0, abs=0.01)
    assert float(logs.std()) == pytest.approx(0.7, abs=0.01)


def test_a_batch_covers_all_levels() -> None:
    u = stratified_uniform(50, torch.device("cpu"))
    assert sorted((u * 50).long().tolist()) == list(range(50))
