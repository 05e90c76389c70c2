"""Objectives of a VAE: bounds on -ln p(x) in nats, summed over pixels and latents.

Symbols: x image, z latent, q(z|x) posterior of the encoder, K samples z_k of q, w_k = p(x|z_k) p(z_k) / q(z_k|x).
To add an objective, subclass `VAEObjective`.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class ELBOTerms(NamedTuple):
    """The terms of the ELBO in nats, for N images and K samples of each posterior.

    log_likelihood: ln p(x|z), (K, N).
    log_prior: ln p(z), (K, N).
    log_posterior: ln q(z|x), (K, N).
    kl: KL(q(z|x) || p(z)): (N, D), one value per latent, or (N, 1), one value for all latents.
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


class VAEObjective(ABC):
    """A loss from `num_samples` samples of each posterior."""

    num_samples: int

    @abstractmethod
    def __call__(self, terms: ELBOTerms, images_seen: int) -> Tensor:
        """Loss (N,) in nats. A weight that changes during training is a function of `images_seen`."""


@dataclass(frozen=True)
class ELBO(VAEObjective):
    """The negative evidence lower bound, with the KL weighted by beta (Higgins et al. 2017, beta-VAE, equation 4).

    Args:
        beta: weight of the KL.
        warmup_kimg: thousands of images over which the weight rises linearly from 0 (Bowman et al. 2015, arXiv:1511.06349).
        free_bits: lower limit in nats of the KL of each latent, averaged over the batch (Kingma et al. 2016,
            arXiv:1606.04934, equation 15). With a prior whose KL is one value for all D latents, the limit is D times this.
        num_samples: K.
    """

    beta: float = 1.0
    warmup_kimg: float = 0.0
    free_bits: float = 0.0
    num_samples: int = 1

    def __call__(self, terms: ELBOTerms, images_seen: int) -> Tensor:
        beta = self.beta * linear_warmup(images_seen, self.warmup_kimg)
        kl = terms.kl.sum(dim=1)
        if self.free_bits:
            minimum = self.free_bits * terms.latent_dim / terms.kl.shape[1]
            kl = terms.kl.mean(dim=0).clamp(min=minimum).sum().expand_as(kl)
        return beta * kl - terms.log_likelihood.mean(dim=0)


@dataclass(frozen=True)
class IWAE(VAEObjective):
    """The negative importance-weighted bound, -ln (1 / K) sum_k w_k (Burda et al. 2015, arXiv:1509.00519, equation 8).

    Args:
        num_samples: K.
        warmup_kimg: thousands of images over which the weight of ln p(z) - ln q(z|x) rises linearly from 0.
    """

    num_samples: int = 5
    warmup_kimg: float = 0.0

    def __call__(self, terms: ELBOTerms, images_seen: int) -> Tensor:
        beta = linear_warmup(images_seen, self.warmup_kimg)
        log_weights = terms.log_likelihood + beta * (terms.log_prior - terms.log_posterior)
        return math.log(len(log_weights)) - torch.logsumexp(log_weights, dim=0)


def linear_warmup(images_seen: int, kimg: float) -> float:
    """Rises linearly from 0 to 1 over `kimg` thousand images; 1 if `kimg` is 0."""
    return min(1.0, images_seen / (1000 * kimg)) if kimg else 1.0
