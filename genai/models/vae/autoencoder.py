"""The networks and distributions of a VAE in one module: encoder, decoder, prior and likelihood."""

from torch import Tensor, nn

from genai.models.vae.gaussian import LatentDistribution, Normal
from genai.models.vae.likelihoods import Likelihood
from genai.models.vae.objectives import ELBOTerms
from genai.models.vae.priors import Prior

LOG_VAR_RANGE = (-14.0, 4.0)


class Autoencoder(nn.Module):
    """q(z|x), p(x|z) and p(z). The distributions are computed in float32, also under autocast.

    Args:
        encoder: (x, condition) -> mean and log-variance (N, 2 D).
        decoder: (z, condition) -> parameters of the likelihood (N, P, H, W).
        prior: p(z).
        likelihood: p(x|z).
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, prior: Prior, likelihood: Likelihood) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.prior = prior
        self.likelihood = likelihood

    def posterior(self, x: Tensor, condition: Tensor | None) -> Normal:
        """q(z|x) for x (N, C, H, W) and condition (N, num_classes) or None; its tensors are (N, D)."""
        mean, log_var = self.encoder(x, condition).float().chunk(2, dim=1)
        return Normal(mean, log_var.clamp(*LOG_VAR_RANGE))

    def latent_distribution(self) -> LatentDistribution:
        """p(z)."""
        distribution: LatentDistribution = self.prior(self.posterior)
        return distribution

    def likelihood_parameters(self, z: Tensor, condition: Tensor | None) -> Tensor:
        """z (K, N, D), condition (N, num_classes) or None -> parameters of p(x|z) (K, N, P, H, W)."""
        repeated = None if condition is None else condition.repeat(len(z), 1)  # (K * N, num_classes)
        return self.decoder(z.flatten(0, 1), repeated).float().unflatten(0, z.shape[:2])  # type: ignore[no-any-return]

    def elbo_terms(
        self, x: Tensor, posterior: Normal, prior: LatentDistribution, epsilon: Tensor, condition: Tensor | None
    ) -> ELBOTerms:
        """The terms of the ELBO for K samples of the posterior of x.

        Args:
            x: (N, C, H, W), from `Likelihood.observe`.
            posterior: q(z|x).
            prior: p(z).
            epsilon: standard normal noise (K, N, D).
            condition: (N, num_classes) or None.
        """
        z = posterior.sample(epsilon)  # (K, N, D)
        log_likelihood = self.likelihood.log_prob(self.likelihood_parameters(z, condition), x)
        kl = prior.kl(posterior, z)
        return ELBOTerms(log_likelihood, prior.log_prob(z), posterior.log_prob(z), kl, z.shape[-1])

    def decode(self, z: Tensor, condition: Tensor | None) -> Tensor:
        """z (N, D) -> mean of p(x|z), (N, C, H, W) in [-1, 1]."""
        return self.likelihood.mean(self.likelihood_parameters(z[None], condition)[0])

    def encode(self, images: Tensor, condition: Tensor | None) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] -> mean of the posterior of their most likely x, (N, D)."""
        return self.posterior(self.likelihood.mode(images), condition).mean
