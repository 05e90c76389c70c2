"""What a VAE minimises: bounds of -ln p(x) in nats, summed over pixels and latents. A new objective is one small class.

Symbols: x image, z latent, q(z|x) the encoder's posterior, K samples of it, w_k = p(x|z_k) p(z_k) / q(z_k|x).
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Evidence(NamedTuple):
    """The terms of the bound for K samples of each of N images, in nats.

    log_likelihood: ln p(x|z), (K, N).
    log_prior: ln p(z), (K, N).
    log_posterior: ln q(z|x), (K, N).
    kl: KL(q(z|x) || p(z)) by latent (N, D), or (N, 1) for all of them.
    latent_dim: D.
    """

    log_likelihood: Tensor
    log_prior: Tensor
    log_posterior: Tensor
    kl: Tensor
    latent_dim: int

    @property
    def log_weights(self) -> Tensor:
        """ln w_k, (K, N)."""
        return self.log_likelihood + self.log_prior - self.log_posterior

    @property
    def elbo(self) -> Tensor:
        """E_q ln p(x|z) - KL(q(z|x) || p(z)), (N,): Kingma & Welling 2013, arXiv:1312.6114, equation 3."""
        return self.log_likelihood.mean(dim=0) - self.kl.sum(dim=1)


class Objective(ABC):
    """A loss of N images, from `num_samples` samples of each posterior."""

    num_samples: int

    @abstractmethod
    def __call__(self, evidence: Evidence, images_seen: int) -> Tensor:
        """Loss (N,) in nats; `images_seen` is for weights that change in training."""


@dataclass(frozen=True)
class ELBO(Objective):
    """The evidence lower bound, its KL weighted by beta (Higgins et al. 2017, beta-VAE, equation 4).

    Args:
        beta: weight of the KL.
        warmup_kimg: thousands of images over which the weight rises from 0 (Bowman et al. 2015, arXiv:1511.06349).
        free_bits: nats of each latent's KL, mean of the batch, that cost nothing (Kingma et al. 2016, arXiv:1606.04934,
            equation 15). With a prior whose KL is known for all latents only, as many for their sum as for each.
        num_samples: K.
    """

    beta: float = 1.0
    warmup_kimg: float = 0.0
    free_bits: float = 0.0
    num_samples: int = 1

    def __call__(self, evidence: Evidence, images_seen: int) -> Tensor:
        beta = self.beta * warmed_up(images_seen, self.warmup_kimg)
        kl = evidence.kl.sum(dim=1)
        if self.free_bits:
            floor = self.free_bits * evidence.latent_dim / evidence.kl.shape[1]
            kl = evidence.kl.mean(dim=0).clamp(min=floor).sum().expand_as(kl)
        return beta * kl - evidence.log_likelihood.mean(dim=0)


@dataclass(frozen=True)
class IWAE(Objective):
    """The importance-weighted bound, -ln (1 / K) sum_k w_k (Burda et al. 2015, arXiv:1509.00519, equation 8).

    Args:
        num_samples: K.
        warmup_kimg: thousands of images over which the weight of ln p(z) - ln q(z|x) rises from 0.
    """

    num_samples: int = 5
    warmup_kimg: float = 0.0

    def __call__(self, evidence: Evidence, images_seen: int) -> Tensor:
        beta = warmed_up(images_seen, self.warmup_kimg)
        log_weights = evidence.log_likelihood + beta * (evidence.log_prior - evidence.log_posterior)
        return math.log(len(log_weights)) - torch.logsumexp(log_weights, dim=0)


def warmed_up(images_seen: int, kimg: float) -> float:
    """From 0 to 1 over `kimg` thousand images, in proportion; 1 without a warm-up."""
    return min(1.0, images_seen / (1000 * kimg)) if kimg else 1.0
