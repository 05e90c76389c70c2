"""Distributions of latents: diagonal normal, standard normal, mixture of normals."""

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

    def sample(self, epsilon: Tensor) -> Tensor:
        """Standard normal noise (..., N, D) -> samples (..., N, D): the reparameterisation trick."""
        return self.mean + (0.5 * self.log_var).exp() * epsilon

    def log_prob(self, z: Tensor) -> Tensor:
        """ln of the density in nats at z (..., N, D), summed over D: (..., N)."""
        squares = (z - self.mean).square() * (-self.log_var).exp()
        return -0.5 * (squares + self.log_var + math.log(2 * math.pi)).sum(dim=-1)


class LatentDistribution(Protocol):
    """The distribution p(z) of latents of length D."""

    def log_prob(self, z: Tensor) -> Tensor:
        """ln p(z) in nats for z (..., D): (...)."""

    def sample(self, seeds: Sequence[int], device: torch.device, temperature: float) -> Tensor:
        """Latents (len(seeds), D). Row i depends on `seeds[i]` only; `temperature` scales the noise."""

    def kl(self, posterior: Normal, z: Tensor) -> Tensor:
        """KL(q(z|x) || p(z)) in nats: (N, D), one value per latent, or (N, 1), one value for all latents.

        Args:
            posterior: q(z|x) of N images.
            z: samples of the posterior (K, N, D), for a Monte Carlo estimate if no closed form exists.
        """


class StandardNormalLatents(NamedTuple):
    """N(0, I) with `dim` latents."""

    dim: int

    def log_prob(self, z: Tensor) -> Tensor:
        return -0.5 * (z.square() + math.log(2 * math.pi)).sum(dim=-1)

    def sample(self, seeds: Sequence[int], device: torch.device, temperature: float) -> Tensor:
        return temperature * seeded_normal(seeds, (self.dim,), device)

    def kl(self, posterior: Normal, z: Tensor) -> Tensor:
        """1/2 (mu^2 + sigma^2 - 1 - ln sigma^2): Kingma & Welling 2013, arXiv:1312.6114, appendix B."""
        return 0.5 * (posterior.mean.square() + posterior.log_var.exp() - 1 - posterior.log_var)


class Mixture(NamedTuple):
    """A mixture of M normal distributions with equal weights; the tensors of `components` are (M, D)."""

    components: Normal

    def log_prob(self, z: Tensor) -> Tensor:
        log_probs = self.components.log_prob(z.unsqueeze(-2))  # (..., M)
        return log_probs.logsumexp(dim=-1) - math.log(len(self.components.mean))

    def sample(self, seeds: Sequence[int], device: torch.device, temperature: float) -> Tensor:
        num, dim = self.components.mean.shape
        random = SeededRandom(seeds, device)
        epsilon, rows = random.normal((dim,)), random.integers(num)
        return Normal(self.components.mean[rows], self.components.log_var[rows]).sample(temperature * epsilon)

    def kl(self, posterior: Normal, z: Tensor) -> Tensor:
        """Mean of ln q(z|x) - ln p(z) over the samples; there is no closed form."""
        return (posterior.log_prob(z) - self.log_prob(z)).mean(dim=0)[:, None]
