"""Likelihoods of Gaussian data, whose densities are known."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from genai.models.capabilities import LikelihoodEstimate
from genai.models.diffusion.diffusion import Diffusion
from genai.models.diffusion.likelihood import log_density, log_prob_of_8_bits
from genai.models.diffusion.preconditioning import append_dims
from genai.models.diffusion.sampling import Sampling
from genai.models.diffusion.sigmas import karras
from tests.models.test_diffusion import SHAPE, Ideal


def test_the_density_of_a_gaussian_is_exact() -> None:
    """Its Jacobian is a multiple of the identity, so that Hutchinson's estimate has no variance."""
    mean, std = 0.3, 0.5

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return (std**2 * x + append_dims(sigma) ** 2 * mean) / (std**2 + append_dims(sigma) ** 2)

    x = mean + std * torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    probe = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).sign()
    sigmas = karras(1600, 1e-3, 2000.0)[:-1].flip(0)
    exact = torch.distributions.Normal(mean, std).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(log_density(denoise, x, sigmas, probe), exact, rtol=0, atol=3e-3)


def test_bits_of_a_uniform_pixel_are_eight() -> None:
    """A uniform density on the 256 values' span, 256 / 127.5 wide, needs 8 bits."""
    log_densities = torch.full((1,), -10 * math.log(256 / 127.5), dtype=torch.float64)
    estimate = LikelihoodEstimate.of_log_prob(log_prob_of_8_bits(log_densities, 10), 10, "")
    assert float(estimate.bits_per_dim) == pytest.approx(8.0)
    assert float(estimate.nats) == pytest.approx(10 * math.log(256))


def test_a_model_counts_bits_of_its_own_data() -> None:
    model = Diffusion(SHAPE, 0, partial(Ideal, std=0.2), sampling=Sampling(sigma_min=0.002)).eval()
    images = 0.2 * torch.randn(40, *SHAPE, generator=torch.Generator().manual_seed(0))
    estimate = model.likelihood(images, list(range(40)), steps=100)
    bits = estimate.bits_per_dim
    entropy = 0.5 * math.log2(2 * math.pi * math.e * 0.2**2) + math.log2(127.5)
    assert float(bits.mean()) == pytest.approx(entropy, abs=0.05)
    assert torch.equal(bits[3:4], model.likelihood(images[3:4], [3], steps=100).bits_per_dim)
    torch.testing.assert_close(estimate.nats, bits * 64 * math.log(2))
    assert "100 noise levels" in estimate.kind
