"""All that a VAE trains, in one module: encoder, decoder, prior and likelihood."""

from torch import Tensor, nn

from genai.models.vae.gaussian import LatentDistribution, Normal
from genai.models.vae.likelihoods import Likelihood
from genai.models.vae.objectives import Evidence
from genai.models.vae.priors import Prior

LOG_VAR_RANGE = (-14.0, 4.0)


class Autoencoder(nn.Module):
    """q(z|x), p(x|z) and p(z); computed in float32 from whatever the networks compute in.

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

    def posterior(self, x: Tensor, told: Tensor | None) -> Normal:
        """q(z|x) of x (N, C, H, W), told (N, num_classes) or None."""
        mean, log_var = self.encoder(x, told).float().chunk(2, dim=1)
        return Normal(mean, log_var.clamp(*LOG_VAR_RANGE))

    def latents(self) -> LatentDistribution:
        """p(z)."""
        prior: LatentDistribution = self.prior(self.posterior)
        return prior

    def parameters_of(self, z: Tensor, told: Tensor | None) -> Tensor:
        """z (K, N, D), told (N, num_classes) or None -> parameters of the likelihood (K, N, P, H, W)."""
        repeated = None if told is None else told.repeat(len(z), 1)
        return self.decoder(z.flatten(0, 1), repeated).float().unflatten(0, z.shape[:2])  # type: ignore[no-any-return]

    def evidence(
        self, x: Tensor, posterior: Normal, latents: LatentDistribution, epsilon: Tensor, told: Tensor | None
    ) -> Evidence:
        """The terms of the bound for samples of the posterior of x (N, C, H, W) with noise `epsilon` (K, N, D)."""
        z = posterior.draw(epsilon)
        log_likelihood = self.likelihood.log_prob(self.parameters_of(z, told), x)
        kl = latents.kl(posterior, z)
        return Evidence(log_likelihood, latents.log_prob(z), posterior.log_prob(z), kl, z.shape[-1])

    def mean_image(self, z: Tensor, told: Tensor | None) -> Tensor:
        """z (N, D) -> mean of p(x|z), (N, C, H, W) in [-1, 1]."""
        return self.likelihood.mean(self.parameters_of(z[None], told)[0])

    def code(self, images: Tensor, told: Tensor | None) -> Tensor:
        """Mean of the posterior of the likeliest x of images (N, C, H, W) in [-1, 1]: (N, D)."""
        return self.posterior(self.likelihood.typical(images), told).mean
