"""Generative adversarial networks: one LightningModule for every objective and pair of networks."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.optim import Optimizer

from genai.errors import UserError
from genai.models.base import ImageModel, NetworkFactory, Shape
from genai.models.capabilities import Intermediate
from genai.models.conditions import check_labels
from genai.models.ema import Averaged
from genai.models.gan.augmentation import ADAPT_EVERY_N_BATCHES, AugmentationControl, DiffAugment, augmented_logits
from genai.models.gan.cluster_conditioning import (
    ClusterConditioning,
    ClusterLatents,
    Clusters,
    DiversityLoss,
    first_images,
)
from genai.models.gan.latents import LatentLayout, PlainLatents, generate_images
from genai.models.gan.objectives import AdversarialObjective, NonSaturating
from genai.models.gan.realness import log_realness, logits_of_samples
from genai.models.gan.resampling import Resampling, with_candidates
from genai.models.gan.steps import UpdateStep, apply_schedules, check_betas
from genai.models.optimization import OPTIONS_OF_FLAGS, build_optimizer, count_batch
from genai.models.schedules import Cosine
from genai.models.seeds import SeededRandom, seeded_normal

DISCRIMINATOR = "discriminator."  # prefix of the discriminator's weights in a zoo entry
SHARES = "clusters.shares"  # name of the frequencies of clusters in a zoo entry
ADAM = {"class_path": "torch.optim.Adam", "init_args": {"lr": 2e-4, "betas": [0.5, 0.999]}}


class GAN(ImageModel):
    """A generator and a discriminator, each with its optimiser.

    Args:
        image_shape: (C, H, W), linked from the data.
        num_classes: width of the condition vector, linked from the data; 0 without labels.
        generator: factory of the network (z, condition) -> image; the network has a `latent_dim`.
        discriminator: factory of the network (image, condition) -> logit.
        generator_optimizer: any torch optimiser.
        discriminator_optimizer: any torch optimiser.
        objective: the losses; NonSaturating by default.
        augmentation: of all images that the discriminator sees in training; None for none.
        augmentation_control: adapts the probability of `augmentation`; None keeps it constant.
        conditional: condition both networks on the label; otherwise labels are unused.
        cluster_conditioning: condition both networks on clusters of the images instead of labels; None for none.
        resampling: generate several candidates per seed and let the discriminator keep one; None for one candidate.
        num_discriminator_steps: discriminator steps, one per batch, for each generator step.
        num_microbatches: parts that a batch is split into, for less memory; the update is that of the whole batch.
        max_grad_norm: a gradient, of either network, with a larger norm is scaled to this norm; None for no limit.
        skip_nonfinite: skip a step with an infinite or NaN loss or gradient, and count it as `train/skipped_steps`, instead of
            stopping the fit.
        lr_schedule: factor on both learning rates, a function of the images seen.
        beta2_schedule: Adam's second decay rate in both optimisers, a function of the images seen.
        ema_halflife_kimg: half-life of the averaged generator, in thousands of images.
        compile: compile the networks with torch.compile; or the name of one of its backends.

    Raises:
        UserError: the options contradict each other.
    """

    MANUAL_FLAGS: ClassVar = OPTIONS_OF_FLAGS
    val_metrics = ("realness",)

    def __init__(
        self,
        image_shape: Shape,
        num_classes: int,
        generator: NetworkFactory,
        discriminator: NetworkFactory,
        generator_optimizer: OptimizerCallable = ADAM,  # type: ignore[assignment]
        discriminator_optimizer: OptimizerCallable = ADAM,  # type: ignore[assignment]
        objective: AdversarialObjective | None = None,
        augmentation: DiffAugment | None = None,
        augmentation_control: AugmentationControl | None = None,
        conditional: bool = False,
        cluster_conditioning: ClusterConditioning | None = None,
        resampling: Resampling | None = None,
        num_discriminator_steps: int = 1,
        num_microbatches: int = 1,
        max_grad_norm: float | None = None,
        skip_nonfinite: bool = False,
        lr_schedule: Cosine | None = None,
        beta2_schedule: Cosine | None = None,
        ema_halflife_kimg: float = 10.0,
        compile: bool | str = False,
    ) -> None:
        super().__init__(image_shape, num_classes, compile=compile)
        check_labels(conditional, num_classes)
        if conditional and cluster_conditioning is not None:
            raise UserError("cluster_conditioning is for models without labels: leave it out, or set conditional to false")
        if augmentation_control is not None and augmentation is None:
            raise UserError("augmentation_control has no augmentation to control: add augmentation, or leave it out")
        self.automatic_optimization = False
        self.conditional = conditional
        self.clusters = Clusters(self.image_shape, cluster_conditioning) if cluster_conditioning else None
        self.diversity_loss: DiversityLoss | None = None
        if self.clusters is not None and cluster_conditioning and cluster_conditioning.diversity_weight:
            self.diversity_loss = DiversityLoss(self.clusters, cluster_conditioning.diversity_weight)
        width = self.clusters.width if self.clusters else num_classes if conditional else 0
        self.generator = generator(self.image_shape, width)
        self.discriminator = discriminator(self.image_shape, width)
        self.averaged = Averaged(self.generator, ema_halflife_kimg)
        z_dim = int(self.generator.latent_dim)  # type: ignore[arg-type]
        self.layout: LatentLayout = ClusterLatents(z_dim, self.clusters) if self.clusters else PlainLatents(z_dim, width)
        self.generator_optimizer = generator_optimizer
        self.discriminator_optimizer = discriminator_optimizer
        self.objective = objective or NonSaturating()
        self.augmentation = augmentation
        self.augmentation_control = augmentation_control
        self.resampling = resampling
        self.num_discriminator_steps = num_discriminator_steps
        self.num_microbatches = num_microbatches
        self.update_step = UpdateStep(num_microbatches, max_grad_norm, skip_nonfinite)
        self.lr_schedule = lr_schedule
        self.beta2_schedule = beta2_schedule
        if getattr(self.objective, "double_backward", False):
            self.not_compiled = (self.discriminator, self.augmentation)  # compiled code is not differentiated twice

    def trained_network(self) -> nn.Module:
        """The generator, which `averaged` follows."""
        return self.generator

    # -- training --------------------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> list[Optimizer]:
        """The optimisers of generator and discriminator."""
        optimizers = [
            build_optimizer(self.generator_optimizer, self.generator),
            build_optimizer(self.discriminator_optimizer, self.discriminator),
        ]
        if self.beta2_schedule is not None:
            for optimizer in optimizers:
                check_betas(optimizer)
        return optimizers

    @torch.no_grad()
    def on_fit_start(self) -> None:
        """Check the shape of the generator's images before the first batch.

        Raises:
            UserError: it is another shape than that of the data.
        """
        labels = torch.zeros(2, self.num_classes, device=self.device) if self.conditional else None
        shape = tuple(self.decode(torch.zeros(2, self.layout.latent_dim, device=self.device), labels).shape[1:])
        if shape != self.image_shape:
            raise UserError(
                f"{type(self.generator).__name__} generates images of shape {shape}, the data's are {self.image_shape}: "
                "choose networks for such images, such as MLPGenerator and MLPDiscriminator of genai.networks.mlp, or build "
                "your own from the image_shape that its factory receives"
            )

    def on_train_start(self) -> None:
        """Fit the clusters, if there are any and the run is new; all processes use the clusters of the first."""
        if self.clusters is not None and not self.clusters.is_fitted:
            loader: Any = self.trainer.train_dataloader
            self.clusters.fit(first_images(loader))
            for buffer in self.clusters.buffers():
                buffer.copy_(self.trainer.strategy.broadcast(buffer))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """A discriminator step and, every `num_discriminator_steps` batches, a generator step with the same latents."""
        real, labels = batch  # (N, C, H, W), (N,) or (N, K)
        condition = self.layout.condition(real, labels)  # (N, width) or None
        z = torch.randn(len(real), self.layout.z_dim, device=self.device)
        generate = partial(self.diversity_loss.generate if self.diversity_loss else generate_images, self.generator)
        fake = generate(z, condition) if self.num_microbatches == 1 else None  # one forward pass for both steps
        logits = partial(augmented_logits, self.discriminator, self.augmentation)
        g_optimizer, d_optimizer = self.optimizers(use_pl_optimizer=False)  # type: ignore[misc]
        for optimizer in (g_optimizer, d_optimizer):
            apply_schedules(optimizer, self.images_seen, self.lr_schedule, self.beta2_schedule)

        def discriminator_loss(real: Tensor, z: Tensor, condition: Tensor | None) -> Tensor:
            images = (fake or generate(z, condition)).images.detach()
            discriminator = partial(logits, condition=condition)
            return self.objective.discriminator_loss(discriminator, real, images, self.images_seen, self.global_step)

        def generator_loss(real: Tensor, z: Tensor, condition: Tensor | None) -> Tensor:
            generated = fake or generate(z, condition)
            loss = self.objective.generator_loss(partial(logits, condition=condition), real, generated.images)
            return loss + self.diversity_loss(generated, condition) if self.diversity_loss else loss

        d_loss = self.update_step.step(self, "discriminator", d_optimizer, discriminator_loss, real, z, condition)
        self.step_log.record({"train/discriminator_loss": d_loss}, prog_bar=True)
        if (self.global_step + 1) % self.num_discriminator_steps == 0:
            self.discriminator.requires_grad_(False)
            g_loss = self.update_step.step(self, "generator", g_optimizer, generator_loss, real, z, condition)
            self.discriminator.requires_grad_(True)
            self.step_log.record({"train/generator_loss": g_loss}, prog_bar=True)
        self.count_images(len(real))
        self.update_averages()
        count_batch(self.trainer)

        if self.augmentation_control and self.global_step % ADAPT_EVERY_N_BATCHES == 0:
            with torch.no_grad():
                self.augmentation_control.adapt(self, real, (fake or generate(z, condition)).images, condition)
        self.step_log.record({"train/lr": g_optimizer.param_groups[0]["lr"]})
        if self.augmentation is not None:
            self.step_log.record({"train/augment_p": self.augmentation.p})
        if self.update_step.skip_nonfinite:
            self.step_log.record({"train/skipped_steps": self.update_step.skipped})

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log the realness of validation images."""
        log_realness(self, "val", batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log the realness of test images."""
        log_realness(self, "test", batch)

    @torch.no_grad()
    def realness(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        """Probabilities (N,) that images (N, C, H, W) in [-1, 1] are real, from the discriminator, by the objective's formula.

        Args:
            images: to be scored.
            condition: their (N,) classes or (N, num_classes) attributes; None for an unconditional model.

        Raises:
            UserError: these are exported weights, without the discriminator of the training.
        """
        if self.is_exported:
            raise UserError("these weights have no discriminator to score realness: name a run directory")
        logits = self.discriminator(images, self.layout.condition(images, condition))
        return self.objective.realness(logits, logits_of_samples(self, condition))

    # -- sampling --------------------------------------------------------------------------------------------------------

    def generate(
        self, seeds: Sequence[int], condition: Tensor | None, num_candidates: int | None = None, **options: Any
    ) -> Tensor:
        """Decode one latent per seed: (len(seeds), C, H, W) in [-1, 1].

        Args:
            seeds, condition: as in `sample`.
            num_candidates: candidates per seed; the discriminator keeps one. The model's own number by default.
            options: none.

        Raises:
            UserError: these are exported weights without the discriminator that would choose.
        """
        if options:
            raise TypeError(f"a GAN has no sampling option {', '.join(options)}: it has num_candidates")
        resampling = with_candidates(self.resampling, num_candidates)
        if resampling is None:
            return self.decode(self.latents(seeds), condition)
        if self.resampling is None and self.is_exported:
            raise UserError("these weights have no discriminator to choose among candidates: name a run directory")
        random = SeededRandom(seeds, self.device)
        return resampling.sample(random, self.layout, self.averaged, self.discriminator, condition)

    def latents(self, seeds: Sequence[int]) -> Tensor:
        """Latents (len(seeds), latent_dim), one per seed; with resampling those of the first candidate."""
        return self.layout.from_noise(seeded_normal(seeds, (self.layout.noise_dim,), self.device))

    def decode(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Latents (N, latent_dim), classes or attributes -> images (N, C, H, W) in [-1, 1] of the averaged generator."""
        return self.averaged(*self.layout.network_inputs(z, condition))

    def intermediate(self) -> Intermediate | None:
        """The space W of the averaged generator, if it has a mapping network."""
        network: Any = self.averaged.network
        if not getattr(network, "mapping", None):
            return None
        return Intermediate(lambda z, labels: network.to_w(*self.layout.network_inputs(z, labels)), network.synthesise)

    # -- zoo entries -----------------------------------------------------------------------------------------------------

    def export_state(self) -> dict[str, Tensor]:
        """The averaged generator; if sampling needs them, also the frequencies of clusters and the discriminator."""
        state = super().export_state()
        if self.clusters is not None:
            state |= {SHARES: self.clusters.shares}
        if self.resampling is not None:
            state |= {DISCRIMINATOR + name: value for name, value in self.discriminator.state_dict().items()}
        return state

    def import_state(self, state: Mapping[str, Tensor]) -> None:
        """Load a state from `export_state`.

        Raises:
            UserError: the model resamples and there is no discriminator among the weights.
        """
        names = [name for name in state if name.startswith(DISCRIMINATOR)]
        if self.resampling is not None:
            if not names:
                raise UserError("there is no discriminator among these weights: name a run directory, or leave resampling out")
            self.discriminator.load_state_dict({name.removeprefix(DISCRIMINATOR): state[name] for name in names})
        if self.clusters is not None:
            self.clusters.shares.copy_(state[SHARES])
        super().import_state({name: value for name, value in state.items() if name not in {*names, SHARES}})
