"""Watermarks: p-values are uniform without a mark and small with it; marked noise stays normal; green lists."""

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from genai.control.inversion import latents_of
from genai.models.token_sampling import TokenSampling
from genai.models.watermarks import GreenList, SignMark


@pytest.mark.parametrize("size", [10, 64, 784])
def test_p_values_without_a_mark_are_uniform_or_larger(size: int) -> None:
    noise = torch.randn(1, size, generator=torch.Generator().manual_seed(0)) + 0.5  # whatever the image is
    p = np.array([float(SignMark(f"key {i}").p_values(noise)) for i in range(300)])
    assert (p < 0.1).mean() < 0.16
    assert 0.3 < p.mean() < 0.7


@pytest.mark.parametrize(("size", "noise"), [(64, 0.5), (784, 1.0)])
def test_a_mark_is_found_in_noisy_estimates(size: int, noise: float) -> None:
    generator = torch.Generator().manual_seed(0)
    z = SignMark("secret").mark(torch.randn(50, size, generator=generator), range(50))
    estimate = z + noise * torch.randn(50, size, generator=generator)
    assert (SignMark("secret").p_values(estimate) < 0.01).double().mean() > 0.95
    assert (SignMark("other").p_values(estimate) < 0.01).double().mean() < 0.1


def test_marked_noise_is_normal_and_depends_on_the_seed_alone() -> None:
    noise = torch.randn(400, 784, generator=torch.Generator().manual_seed(0))
    marked = SignMark("secret").mark(noise, range(400))
    assert torch.equal(marked.abs(), noise.abs())
    assert kstest(marked[:, 0].numpy(), "norm").pvalue > 0.001  # one number over images: patterns differ
    assert torch.equal(SignMark("secret").mark(noise[7:8], [7]), marked[7:8])
    assert not torch.equal(SignMark("other").mark(noise, range(400)), marked)


def test_tokens_of_the_green_list_are_more_likely() -> None:
    green, random = GreenList("secret"), np.random.default_rng(0)
    sampling, vocab = TokenSampling(green=green), 50
    tokens = [0]
    for _ in range(200):
        u = torch.tensor([random.random()])
        tokens.append(int(sampling.sample(torch.zeros(1, vocab), u, torch.tensor(tokens[-1:]))))
    p, num_green, num = green.p_value(tokens, vocab)
    assert num <= 200
    assert num_green / num == pytest.approx(np.e**2 / (1 + np.e**2), abs=0.1)  # of equally likely tokens
    assert p < 1e-6
    assert GreenList("other").p_value(tokens, vocab)[0] > 0.001
    assert green.p_value([1, 2] * 100, vocab)[2] == 2  # repeated pairs count once
    assert torch.equal(TokenSampling().sample(torch.zeros(1, vocab), torch.tensor([0.5])), torch.tensor([25]))


class Quadratic:
    """A smooth, injective decoder."""

    def __init__(self) -> None:
        self.weight = torch.randn(6, 16, generator=torch.Generator().manual_seed(0))

    def latents(self, seeds: range) -> torch.Tensor:
        return torch.randn(len(seeds), 6, generator=torch.Generator().manual_seed(1))

    def decode(self, z: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        return torch.tanh(z @ self.weight).view(-1, 1, 4, 4)


def test_least_squares_finds_the_latent_of_an_image() -> None:
    model = Quadratic()
    z = torch.randn(3, 6, generator=torch.Generator().manual_seed(2))
    found = latents_of(model, model.decode(z))
    assert (model.decode(found) - model.decode(z)).abs().max() < 0.1
    assert torch.equal(found.sign(), z.sign())
