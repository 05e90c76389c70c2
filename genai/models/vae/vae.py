"""Variational autoencoders: one LightningModule for every pair of networks, likelihood, prior and objective."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torch.optim import Optimizer

from genai.models.base import ImageModel, Shape
from genai.models.conditions import drop_condition, encode_labels
from genai.models.ema import Averaged
from genai.models.optimization import build_optimizer
from genai.models.schedules import Cosine
from genai.models.seeds import SeededRandom
from genai.models.vae.autoencoder import Autoencoder
from genai.models.vae.bound import importance_weighted_bound
from genai.models.vae.likelihoods import Bernoulli, Likelihood
from genai.models.vae.objectives import ELBO, Objective
from genai.models.vae.priors import Prior, StandardNormal
from genai.models.vae.scores import BoundScores
from genai.networks.conditioning import as_vector

ADAM = {"class_path": "torch.optim.Adam", "init_args": {"lr": 1e-3, "betas": [0.9, 0.99]}}
AT_ONCE = 32  # samples of each posterior that the bound decodes at once
CoderFactory = Callable[[Shape, int, int], nn.Module]  # (shape of the images or of the decoder's output, num_classes, D)
PriorFactory = Callable[[Shape, int, int], Prior]


class VAE(ImageModel):
    """A latent variable model p(z) p(x|z), trained with a posterior q(z|x) (Kingma & Welling 2013, arXiv:1312.6114).

    Args:
        image_shape: (C, H, W), linked from the data.
        num_classes: width of the condition (classes or attributes), linked from the data.
        encoder: factory of the network (x, condition) -> mean and log-variance.
        decoder: factory of the network (z, condition) -> parameters of the likelihood.
        latent_dim: D, length of the latent z.
        likelihood: p(x|z); Bernoulli with dynamic binarisation unless another is given.
        prior: factory of p(z); the standard normal unless another is given.
        objective: what is minimised; the evidence lower bound unless another is given.
        optimizer: any torch optimiser.
        conditional: tell both networks the label of the data; otherwise the labels are unused.
        condition_dropout: share of the labels left out in training, so that images without a label can be encoded.
        max_grad_norm: longer gradients are shortened to this; None for no limit.
        lr_schedule: factor on the learning rate, a function of the images seen.
        ema_halflife_kimg: half-life of the averaged networks, in thousands of images.
        options: of `Model`.
    """

    def __init__(
        self,
        image_shape: Shape,
        num_classes: int,
        encoder: CoderFactory,
        decoder: CoderFactory,
        latent_dim: int = 32,
        likelihood: Likelihood | None = None,
        prior: PriorFactory | None = None,
        objective: Objective | None = None,
        optimizer: OptimizerCallable = ADAM,  # type: ignore[assignment]
        conditional: bool = False,
        condition_dropout: float = 0.1,
        max_grad_norm: float | None = 100.0,
        lr_schedule: Cosine | None = None,
        ema_halflife_kimg: float = 20.0,
        **options: Any,
    ) -> None:
        super().__init__(image_shape, num_classes, **options)
        self.automatic_optimization = False
        self.conditional = conditional
        self.latent_dim = latent_dim
        likelihood = likelihood or Bernoulli()
        channels, *sides = self.image_shape
        width = num_classes if conditional else 0
        drawn = (likelihood.num_parameters(channels), sides[0], sides[1])
        self.network = Autoencoder(
            encoder(self.image_shape, width, latent_dim),
            decoder(drawn, width, latent_dim),
            (prior or StandardNormal)(self.image_shape, width, latent_dim),
            likelihood,
        )
        self.averaged = Averaged(self.network, ema_halflife_kimg)
        self.objective = objective or ELBO()
        self.optimizer = optimizer
        self.condition_dropout = condition_dropout
        self.max_grad_norm = max_grad_norm
        self.lr_schedule = lr_schedule

    @property
    def trained(self) -> Autoencoder:
        """The averaged networks."""
        return self.averaged.network  # type: ignore[return-value]

    def configure_optimizers(self) -> Optimizer:
        return build_optimizer(self.optimizer, self.network)

    # -- training --------------------------------------------------------------------------------------------------------

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        optimizer: Any = self.optimizers()
        self.set_learning_rates([optimizer], self.lr_schedule)
        x = self.network.likelihood.observe(images, torch.rand_like(images))
        told = drop_condition(self.told(labels, len(images)), self.condition_dropout)
        epsilon = torch.randn(len(images), self.objective.num_samples, self.latent_dim, device=self.device)
        parts: list[Tensor] = []
        loss = self.descend(optimizer, partial(self.loss, parts=parts), x, epsilon, told)
        num_images = self.advance(len(images))
        self.averaged.update(self.network, num_images, self.images_seen)
        log_likelihood, kl, elbo = torch.cat(parts, dim=1).mean(dim=1)
        figures = {"loss": loss, "elbo": elbo, "reconstruction": -log_likelihood, "kl": kl}
        self.track({f"train/{name}": value for name, value in figures.items()} | {"train/lr": optimizer.param_groups[0]["lr"]})

    def loss(self, x: Tensor, epsilon: Tensor, told: Tensor | None, parts: list[Tensor]) -> Tensor:
        """The objective of x (N, C, H, W) with noise (N, K, D): (N,). Keeps ln p(x|z), KL and bound, (3, N), in `parts`."""
        network = self.network
        evidence = network.evidence(x, network.posterior(x, told), network.latents(), epsilon.transpose(0, 1), told)
        figures = evidence.log_likelihood.mean(dim=0), evidence.kl.sum(dim=1), evidence.elbo
        parts.append(torch.stack(figures).detach())
        return self.objective(evidence, self.images_seen)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        self.limit_gradients(optimizer, self.loss_now, self.max_grad_norm)

    def told(self, labels: Tensor | None, num: int) -> Tensor | None:
        """What the networks are told of the labels of `num` images, see `encode_labels`: zeros where there are none.

        Raises:
            UserError: the labels are words.
        """
        if not self.conditional:
            return None
        if labels is None:
            return torch.zeros(num, self.num_classes, device=self.device)
        return as_vector(encode_labels(labels.to(self.device), self.num_classes))

    # -- scores ----------------------------------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        self.scores = BoundScores(math.prod(self.image_shape))

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.score(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        self.publish("val")

    def on_test_epoch_start(self) -> None:
        self.on_validation_epoch_start()

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.score(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        self.publish("test")

    def score(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Add the averaged networks' bound on a batch, with a KL of full weight and the same noise at each call."""
        images, labels = batch
        generator = torch.Generator().manual_seed(batch_idx)
        x = self.trained.likelihood.observe(images, torch.rand(images.shape, generator=generator).to(images))
        epsilon = torch.randn(1, len(images), self.latent_dim, generator=generator).to(images)
        told = self.told(labels, len(images))
        posterior = self.trained.posterior(x, told)
        self.scores.update(self.trained.evidence(x, posterior, self.trained.latents(), epsilon, told), posterior.mean)

    def publish(self, split: str) -> None:
        """Log the split's scores at `images_seen`; `val/loss` is what a checkpoint should minimise."""
        metrics = {f"{split}/{name}": value for name, value in self.scores.compute().items()}
        self.log_dict(metrics, logger=False)
        if self.trainer.sanity_checking:
            return
        for logger in self.loggers:
            logger.log_metrics(metrics, step=self.images_seen)
        if split == "test":
            rank_zero_info("\n".join(f"{name:<28} {value:.4f}" for name, value in metrics.items()))

    # -- what it can do --------------------------------------------------------------------------------------------------

    def generate(self, seeds: Sequence[int], condition: Tensor | None, temperature: float = 1.0, **options: Any) -> Tensor:
        """Decode one latent per seed, drawn from the prior: (len(seeds), C, H, W) in [-1, 1], means of p(x|z).

        Args:
            seeds: of the latents.
            condition: classes or attributes.
            temperature: scale of the prior's noise; below 1, likelier and less varied images.
        """
        return self.decode(self.latents(seeds, temperature), condition)

    @torch.no_grad()
    def latents(self, seeds: Sequence[int], temperature: float = 1.0) -> Tensor:
        """Latents (len(seeds), D) drawn from the prior, one per seed."""
        return self.trained.latents().sample(seeds, self.device, temperature)

    @torch.no_grad()
    def encode(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] -> means of their posteriors (N, D), without chance.

        Args:
            images: grey pixels count as their likelier value where the likelihood is of black and white.
            condition: classes or attributes; None says nothing.
        """
        return self.trained.code(images.to(self.device), self.told(condition, len(images)))

    @torch.no_grad()
    def decode(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Latents (N, D) -> means of p(x|z), (N, C, H, W) in [-1, 1]."""
        return self.trained.mean_image(z.to(self.device), self.told(condition, len(z)))

    def reconstruct(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] -> their codes decoded, without chance."""
        return self.decode(self.encode(images, condition), condition)

    @torch.no_grad()
    def log_likelihood(self, images: Tensor, seeds: Sequence[int], num_samples: int, condition: Tensor | None = None) -> Tensor:
        """A lower bound of ln p(x) in nats, summed over pixels: (N,) float64, see `importance_weighted_bound`.

        Args:
            images: (N, C, H, W) in [-1, 1].
            seeds: of the binarisation or dequantisation and of the samples, one for each image.
            num_samples: K; 1 is the evidence lower bound.
            condition: classes or attributes; None says nothing.
        """
        images, told = images.to(self.device), self.told(condition, len(images))
        random = SeededRandom(seeds, self.device)
        x = self.trained.likelihood.observe(images, random.uniform(self.image_shape).to(images.dtype))
        posterior, latents = self.trained.posterior(x, told), self.trained.latents()

        def log_weights(num: int) -> Tensor:
            epsilon = random.normal((AT_ONCE, self.latent_dim)).transpose(0, 1)[:num]  # (num, N, D)
            return self.trained.evidence(x, posterior, latents, epsilon, told).log_weights

        return importance_weighted_bound(log_weights, num_samples, AT_ONCE)

    def bits_per_dim(self, images: Tensor, seeds: Sequence[int], condition: Tensor | None = None, steps: int = 50) -> Tensor:
        """Upper bound of the bits per dimension (N,) float64; of binarised images, bits of pixels of two values.

        Args:
            images: (N, C, H, W) in [-1, 1].
            seeds: as in `log_likelihood`.
            condition: classes or attributes; None says nothing.
            steps: samples of each posterior.
        """
        return -self.log_likelihood(images, seeds, steps, condition) / (math.prod(self.image_shape) * math.log(2))
