"""Generative adversarial networks: one LightningModule for every objective and pair of networks."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.optim import Optimizer

from genai.models.base import (
    GenerativeModel,
    NetworkFactory,
    Shape,
    build_optimizer,
    condition_vector,
    seeded_noise,
)
from genai.models.ema import Averaged
from genai.models.gan.objectives import NonSaturating, Objective
from genai.models.schedules import Cosine

ADAM = {"class_path": "torch.optim.Adam", "init_args": {"lr": 2e-4, "betas": [0.5, 0.999]}}


class GAN(GenerativeModel):
    """A generator against a discriminator, each with its optimiser.

    Args:
        image_shape: (C, H, W), linked from the data.
        num_classes: width of the condition vector, linked from the data.
        generator: factory of the network (z, condition) -> image; it has a `latent_dim`.
        discriminator: factory of the network (image, condition) -> logit.
        generator_optimizer: any torch optimiser.
        discriminator_optimizer: any torch optimiser.
        objective: the game; the non-saturating one unless another is given.
        conditional: give both networks the label; otherwise the labels are unused.
        num_discriminator_steps: batches the discriminator sees for each step of the generator.
        lr_schedule: factor on both learning rates, a function of the images seen.
        ema_halflife_kimg: half-life of the averaged generator, in thousands of images.
    """

    def __init__(
        self,
        image_shape: Shape,
        num_classes: int,
        generator: NetworkFactory,
        discriminator: NetworkFactory,
        generator_optimizer: OptimizerCallable = ADAM,  # type: ignore[assignment]
        discriminator_optimizer: OptimizerCallable = ADAM,  # type: ignore[assignment]
        objective: Objective | None = None,
        conditional: bool = False,
        num_discriminator_steps: int = 1,
        lr_schedule: Cosine | None = None,
        ema_halflife_kimg: float = 10.0,
    ) -> None:
        super().__init__(image_shape, num_classes)
        self.automatic_optimization = False
        self.conditional = conditional
        width = num_classes if conditional else 0
        self.generator = generator(self.image_shape, width)
        self.discriminator = discriminator(self.image_shape, width)
        self.averaged = Averaged(self.generator, ema_halflife_kimg)
        self.generator_optimizer = generator_optimizer
        self.discriminator_optimizer = discriminator_optimizer
        self.objective = objective or NonSaturating()
        self.num_discriminator_steps = num_discriminator_steps
        self.lr_schedule = lr_schedule

    def configure_optimizers(self) -> list[Optimizer]:
        return [
            build_optimizer(self.generator_optimizer, self.generator),
            build_optimizer(self.discriminator_optimizer, self.discriminator),
        ]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        real, labels = batch
        condition = self.condition(labels)
        optimizers: Any = self.optimizers()
        self.set_learning_rates(optimizers, self.lr_schedule)
        fake = self.generator(torch.randn(len(real), self.latent_dim, device=self.device), condition)
        metrics = {"train/discriminator_loss": self.step_discriminator(optimizers[1], real, fake.detach(), condition)}
        if (batch_idx + 1) % self.num_discriminator_steps == 0:
            metrics["train/generator_loss"] = self.step_generator(optimizers[0], real, fake, condition)
        images = self.advance(len(real))
        self.averaged.update(self.generator, images, self.images_seen)
        self.track(metrics | {"train/lr": optimizers[0].param_groups[0]["lr"]})

    def step_discriminator(self, optimizer: Any, real: Tensor, fake: Tensor, condition: Tensor | None) -> Tensor:
        """One step of the discriminator; returns its mean loss."""
        optimizer.zero_grad()
        discriminator = partial(self.discriminator, condition=condition)
        loss = self.objective.discriminator_loss(discriminator, real, fake).mean()
        self.manual_backward(loss)
        optimizer.step()
        return loss.detach()

    def step_generator(self, optimizer: Any, real: Tensor, fake: Tensor, condition: Tensor | None) -> Tensor:
        """One step of the generator through a frozen discriminator; returns its mean loss."""
        optimizer.zero_grad()
        self.discriminator.requires_grad_(False)
        discriminator = partial(self.discriminator, condition=condition)
        loss = self.objective.generator_loss(discriminator, real, fake).mean()
        self.manual_backward(loss)
        self.discriminator.requires_grad_(True)
        optimizer.step()
        return loss.detach()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log_belief("val", batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log_belief("test", batch)

    def log_belief(self, stage: str, batch: tuple[Tensor, Tensor]) -> None:
        """Log how real the discriminator finds held-out images: far below its training value, it has memorised."""
        if self.is_exported:
            return
        images, labels = batch
        belief = self.belief(images, self.condition(labels)).mean()
        self.log(f"{stage}/belief_real", belief, logger=False, sync_dist=True, batch_size=len(images))

    @torch.no_grad()
    def belief(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        """The discriminator's probability of being real (N,) for images (N, C, H, W) in [-1, 1]."""
        return torch.sigmoid(self.discriminator(images, condition))

    def condition(self, labels: Tensor) -> Tensor | None:
        """Labels of a batch -> (N, num_classes) condition vectors, or None for an unconditional model."""
        return condition_vector(labels, self.num_classes) if self.conditional else None

    @property
    def latent_dim(self) -> int:
        return int(self.generator.latent_dim)  # type: ignore[arg-type]

    def generate(self, seeds: Sequence[int], condition: Tensor | None, **options: Any) -> Tensor:
        """Decode one latent per seed: (len(seeds), C, H, W) in [-1, 1]."""
        z = seeded_noise(seeds, (self.latent_dim,), self.device)
        return self.decode(z, condition)

    def decode(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Latents (N, latent_dim), classes or attributes -> images (N, C, H, W) in [-1, 1] of the averaged generator."""
        return self.averaged(z, None if condition is None else condition_vector(condition, self.num_classes))
