"""Variational autoencoders: a LightningModule for any networks, likelihood, prior and objective."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from genai.errors import UserError, check_at_least
from genai.models.base import ImageModel, Shape
from genai.models.capabilities import LikelihoodEstimate
from genai.models.conditions import check_labels, drop_condition
from genai.models.ema import Averaged
from genai.models.optimization import optimizer_and_schedule
from genai.models.schedules import Cosine
from genai.models.seeds import SeededRandom
from genai.models.vae.autoencoder import Autoencoder
from genai.models.vae.bound import importance_weighted_bound
from genai.models.vae.likelihoods import Bernoulli, Likelihood
from genai.models.vae.metrics import ActiveUnits
from genai.models.vae.objectives import ELBO, VAEObjective
from genai.models.vae.priors import Prior, StandardNormal
from genai.networks.conditioning import as_vector

ADAM = {"class_path": "torch.optim.Adam", "init_args": {"lr": 1e-3, "betas": [0.9, 0.99]}}
SAMPLES_AT_ONCE = 32  # importance samples of each image that are decoded at once
CoderFactory = Callable[[Shape, int, int], nn.Module]  # (shape of the images or of the decoder's output, num_classes, D)
LatentPriorFactory = Callable[[Shape, int, int], Prior]


class VAE(ImageModel):
    """A latent variable model p(z) p(x|z), trained with a posterior q(z|x) (Kingma & Welling 2013, arXiv:1312.6114).

    Args:
        image_shape: (C, H, W), linked from the data.
        num_classes: width of the condition (classes or attributes), linked from the data.
        encoder: factory of the network (x, condition) -> mean and log-variance.
        decoder: factory of the network (z, condition) -> parameters of the likelihood.
        latent_dim: D, length of the latent z.
        likelihood: p(x|z); the default is Bernoulli with dynamic binarisation.
        prior: factory of p(z); the default is the standard normal distribution.
        objective: the loss; the default is the ELBO.
        optimizer: any torch optimiser.
        conditional: condition both networks on the labels; otherwise the labels are unused.
        condition_dropout: probability of the null condition in training, so that images without a label can be encoded.
        lr_schedule: factor on the learning rate, a function of the images seen.
        ema_halflife_kimg: half-life of the averaged networks, in thousands of images.
        options: of `Model`.
    """

    val_metrics = ("loss", "elbo", "reconstruction", "kl", "bits_per_dim", "active_units")

    def __init__(
        self,
        image_shape: Shape,
        num_classes: int,
        encoder: CoderFactory,
        decoder: CoderFactory,
        latent_dim: int = 32,
        likelihood: Likelihood | None = None,
        prior: LatentPriorFactory | None = None,
        objective: VAEObjective | None = None,
        optimizer: OptimizerCallable = ADAM,  # type: ignore[assignment]
        conditional: bool = False,
        condition_dropout: float = 0.1,
        lr_schedule: Cosine | None = None,
        ema_halflife_kimg: float = 20.0,
        **options: Any,
    ) -> None:
        super().__init__(image_shape, num_classes, **options)
        check_labels(conditional, num_classes)
        self.conditional = conditional
        self.condition_dim = num_classes if conditional else 0
        check_at_least("latent_dim", latent_dim, 1)
        self.latent_dim = latent_dim
        likelihood = likelihood or Bernoulli()
        channels, height, width = self.image_shape
        if channels > 1 and isinstance(likelihood, Bernoulli):
            raise UserError(
                f"a Bernoulli likelihood is of black and white pixels, and the images have {channels} channels: "
                "--model.init_args.likelihood genai.models.vae.likelihoods.Gaussian, or --data.init_args.channels 1"
            )
        output_shape = (likelihood.num_parameters(channels), height, width)
        self.network = Autoencoder(
            encoder(self.image_shape, self.condition_dim, latent_dim),
            decoder(output_shape, self.condition_dim, latent_dim),
            (prior or StandardNormal)(self.image_shape, self.condition_dim, latent_dim),
            likelihood,
        )
        self.averaged = Averaged(self.network, ema_halflife_kimg)
        self.active_units = ActiveUnits()
        self.objective = objective or ELBO()
        self.optimizer = optimizer
        self.condition_dropout = condition_dropout
        self.lr_schedule = lr_schedule

    @property
    def averaged_network(self) -> Autoencoder:
        """The averaged networks."""
        return self.averaged.network  # type: ignore[return-value]

    def trained_network(self) -> nn.Module:
        return self.network

    def condition_vectors(self, labels: Tensor | None, num: int) -> Tensor | None:
        """Condition vectors (num, condition_dim) of the labels of `num` images, see `encode_labels`.

        None for an unconditional model; zeros, the null condition, without labels.

        Raises:
            UserError: the labels are words.
        """
        if self.conditional and labels is None:
            return torch.zeros(num, self.condition_dim, device=self.device)
        encoded = self.encode_condition(labels)
        return None if encoded is None else as_vector(encoded)

    # -- training and evaluation -----------------------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        return optimizer_and_schedule(self.optimizer, self.network, self.lr_schedule, self)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch  # (N, C, H, W), (N,) or (N, num_classes)
        x = self.network.likelihood.observe(images, torch.rand_like(images))
        condition = self.condition_vectors(labels, len(images))
        condition = drop_condition(condition, self.condition_dropout)
        epsilon = torch.randn(len(images), self.objective.num_samples, self.latent_dim, device=self.device).transpose(0, 1)
        posterior, prior = self.network.posterior(x, condition), self.network.latent_distribution()
        terms = self.network.elbo_terms(x, posterior, prior, epsilon, condition)  # of K samples of q(z|x)
        loss = self.objective(terms, self.images_seen).mean()
        self.step_log.record({"train/loss": loss}, prog_bar=True)
        parts = {"elbo": terms.elbo, "reconstruction": -terms.log_likelihood, "kl": terms.kl.sum(dim=1)}
        self.step_log.record({f"train/{name}": value.mean() for name, value in parts.items()})
        self.count_images(len(images))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.evaluate(batch, batch_idx, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.evaluate(batch, batch_idx, "test")

    def evaluate(self, batch: tuple[Tensor, Tensor], batch_idx: int, split: str) -> None:
        """Log the ELBO of the averaged networks, in nats per image; each evaluation uses the same noise.

        Logged: `loss` (the negative ELBO, to be minimised), `elbo`, `reconstruction` (-E ln p(x|z)), `kl`, `bits_per_dim`
        (of `likelihood.pixels`) and `active_units`.
        """
        images, labels = batch
        generator = torch.Generator().manual_seed(batch_idx)
        x = self.averaged_network.likelihood.observe(images, torch.rand(images.shape, generator=generator).to(images))
        epsilon = torch.randn(1, len(images), self.latent_dim, generator=generator).to(images)
        condition = self.condition_vectors(labels, len(images))
        posterior, prior = self.averaged_network.posterior(x, condition), self.averaged_network.latent_distribution()
        terms = self.averaged_network.elbo_terms(x, posterior, prior, epsilon, condition)
        metrics = {"loss": -terms.elbo, "elbo": terms.elbo, "reconstruction": -terms.log_likelihood, "kl": terms.kl.sum(dim=1)}
        metrics["bits_per_dim"] = -terms.elbo / (images[0].numel() * math.log(2))
        means = {f"{split}/{name}": value.mean() for name, value in metrics.items()}
        self.log_dict(means, batch_size=len(images), sync_dist=True)
        self.active_units.update(posterior.mean)
        self.log(f"{split}/active_units", self.active_units)

    # -- capabilities ----------------------------------------------------------------------------------------------------

    def generate(self, seeds: Sequence[int], condition: Tensor | None, temperature: float = 1.0, **options: Any) -> Tensor:
        """Sample one latent per seed from the prior and decode it: (len(seeds), C, H, W) in [-1, 1], means of p(x|z).

        Args:
            seeds: of the latents.
            condition: (N,) classes or (N, num_classes) attributes.
            temperature: scale of the noise of the prior. Values below 1 give more likely and less diverse images.
            options: none.
        """
        if options:
            raise TypeError(f"a VAE has no sampling option {', '.join(options)}: it has temperature")
        return self.decode(self.latents(seeds, temperature), condition)

    @torch.no_grad()
    def latents(self, seeds: Sequence[int], temperature: float = 1.0) -> Tensor:
        """One latent per seed, sampled from the prior: (len(seeds), D)."""
        return self.averaged_network.latent_distribution().sample(seeds, self.device, temperature)

    @torch.no_grad()
    def encode(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] -> means of their posteriors (N, D), deterministic.

        Args:
            images: with a Bernoulli likelihood, a grey pixel counts as its more likely value.
            condition: (N,) classes or (N, num_classes) attributes; None is the null condition.
        """
        return self.averaged_network.encode(images.to(self.device), self.condition_vectors(condition, len(images)))

    @torch.no_grad()
    def decode(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Latents (N, D) -> means of p(x|z), (N, C, H, W) in [-1, 1]."""
        return self.averaged_network.decode(z.to(self.device), self.condition_vectors(condition, len(z)))

    def reconstruct(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        """Encode and decode images (N, C, H, W) in [-1, 1], deterministic."""
        return self.decode(self.encode(images, condition), condition)

    @torch.no_grad()
    def likelihood_bound(
        self, images: Tensor, seeds: Sequence[int], condition: Tensor | None = None, num_samples: int = 1
    ) -> LikelihoodEstimate:
        """Upper bound on -ln p(x) of the pixels that `likelihood.pixels` names; see `importance_weighted_bound`.

        Args:
            images: (N, C, H, W) in [-1, 1].
            seeds: of the binarisation or dequantisation and of the samples, one for each image.
            condition: (N,) classes or (N, num_classes) attributes; None is the null condition.
            num_samples: K importance samples; 1 gives the ELBO, more the IWAE bound.
        """
        images = images.to(self.device)
        condition = self.condition_vectors(condition, len(images))
        random = SeededRandom(seeds, self.device)
        x = self.averaged_network.likelihood.observe(images, random.uniform(self.image_shape).to(images.dtype))
        posterior, prior = self.averaged_network.posterior(x, condition), self.averaged_network.latent_distribution()

        def log_weights(num: int) -> Tensor:
            epsilon = random.normal((SAMPLES_AT_ONCE, self.latent_dim)).transpose(0, 1)[:num]  # (num, N, D)
            return self.averaged_network.elbo_terms(x, posterior, prior, epsilon, condition).log_weights

        bound = importance_weighted_bound(log_weights, num_samples, SAMPLES_AT_ONCE)
        kind = "ELBO" if num_samples == 1 else f"IWAE bound with {num_samples:,} samples"
        return LikelihoodEstimate.of_log_prob(
            bound, math.prod(self.image_shape), f"{kind}, {self.averaged_network.likelihood.pixels}"
        )
