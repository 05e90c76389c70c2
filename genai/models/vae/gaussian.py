"""Normal distributions with a diagonal covariance, and what distributions of latents have in common."""

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from genai.models.seeds import SeededRandom, seeded_normal


class Normal(NamedTuple):
    """N(mean, exp(log_var)), each (N, D) float32."""

    mean: Tensor
    log_var: Tensor

    def draw(self, epsilon: Tensor) -> Tensor:
        """Standard normal noise (..., N, D) -> samples (..., N, D)."""
        return self.mean + (0.5 * self.log_var).exp() * epsilon

    def log_prob(self, z: Tensor) -> Tensor:
        """ln of the density at z (..., N, D), summed over D: (..., N)."""
        squares = (z - self.mean).square() * (-self.log_var).exp()
        return -0.5 * (squares + self.log_var + math.log(2 * math.pi)).sum(dim=-1)


class LatentDistribution(Protocol):
    """p(z)."""

    def log_prob(self, z: Tensor) -> Tensor:
        """ln p(z) in nats of z (..., D): (...)."""

    def sample(self, seeds: Sequence[int], device: torch.device, temperature: float) -> Tensor:
        """Latents (len(seeds), D), row i a function of `seeds[i]` alone; the noise is scaled by `temperature`."""

    def kl(self, posterior: Normal, z: Tensor) -> Tensor:
        """KL(q(z|x) || p(z)) in nats by latent (N, D), or (N, 1) where it is known for all latents together only.

        Args:
            posterior: q(z|x) of N images.
            z: samples of it (K, N, D), for an estimate where there is no closed form.
        """


class StandardNormalLatents(NamedTuple):
    """N(0, I) of `dim` latents."""

    dim: int

    def log_prob(self, z: Tensor) -> Tensor:
        return -0.5 * (z.square() + math.log(2 * math.pi)).sum(dim=-1)

    def sample(self, seeds: Sequence[int], device: torch.device, temperature: float) -> Tensor:
        return temperature * seeded_normal(seeds, (self.dim,), device)

    def kl(self, posterior: Normal, z: Tensor) -> Tensor:
        """1/2 (mu^2 + sigma^2 - 1 - ln sigma^2): Kingma & Welling 2013, arXiv:1312.6114, appendix B."""
        return 0.5 * (posterior.mean.square() + posterior.log_var.exp() - 1 - posterior.log_var)


class Mixture(NamedTuple):
    """Equal parts of M normal distributions, `parts` (M, D)."""

    parts: Normal

    def log_prob(self, z: Tensor) -> Tensor:
        each = self.parts.log_prob(z.unsqueeze(-2))  # (..., M)
        return each.logsumexp(dim=-1) - math.log(len(self.parts.mean))

    def sample(self, seeds: Sequence[int], device: torch.device, temperature: float) -> Tensor:
        num, dim = self.parts.mean.shape
        random = SeededRandom(seeds, device)
        epsilon, rows = random.normal((dim,)), random.integers(num)
        return Normal(self.parts.mean[rows], self.parts.log_var[rows]).draw(temperature * epsilon)

    def kl(self, posterior: Normal, z: Tensor) -> Tensor:
        """Mean over the samples of ln q(z|x) - ln p(z): no closed form."""
        return (posterior.log_prob(z) - self.log_prob(z)).mean(dim=0)[:, None]
