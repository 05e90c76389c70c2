"""Generative adversarial networks: one LightningModule for every objective and pair of networks."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer

from genai.errors import UserError
from genai.models.base import ImageModel, NetworkFactory, Shape
from genai.models.conditions import condition_vector
from genai.models.ema import Averaged
from genai.models.gan.augmentation import DiffAugment
from genai.models.gan.clusters import Clusters, SelfConditioning, first_images
from genai.models.gan.objectives import NonSaturating, Objective
from genai.models.gan.resampling import Resampling
from genai.models.optimization import build_optimizer
from genai.models.schedules import Cosine
from genai.models.seeds import SeededRandom, seeded_normal

BELIEF_FAKES = 64  # generated images that a realness is relative to
DISCRIMINATOR = "discriminator."  # before the names of its weights, in a zoo entry
SHARES = "clusters.shares"  # the same, how often each cluster is drawn
ADAPT_EVERY = 4  # batches between two looks of an adaptive augmentation
Draw = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor]]  # see `GAN.draw`
ADAM = {"class_path": "torch.optim.Adam", "init_args": {"lr": 2e-4, "betas": [0.5, 0.999]}}


class GAN(ImageModel):
    """A generator against a discriminator, each with its optimiser.

    Args:
        image_shape: (C, H, W), linked from the data.
        num_classes: width of the condition vector, linked from the data.
        generator: factory of the network (z, condition) -> image; it has a `latent_dim`.
        discriminator: factory of the network (image, condition) -> logit.
        generator_optimizer: any torch optimiser.
        discriminator_optimizer: any torch optimiser.
        objective: the game; the non-saturating one unless another is given.
        augmentation: changes all images that the discriminator sees in training; None for none.
        conditional: give both networks the label; otherwise the labels are unused.
        num_discriminator_steps: batches the discriminator sees for each step of the generator.
        lr_schedule: factor on both learning rates, a function of the images seen.
        beta2_schedule: Adam's second decay rate in both optimisers, a function of the images seen.
        ema_halflife_kimg: half-life of the averaged generator, in thousands of images.
        skip_nonfinite: leave out a step whose loss or gradient is infinite or NaN, and count it (`train/skipped_steps`),
            in the place of stopping the run.
        max_grad_norm: longer gradients, of either network, are shortened to this; None for no limit.
        resampling: draw several images for each seed and let the discriminator choose; None keeps the first.
        self_conditioning: give both networks the cluster that an image is in, in the place of a label; None for no clusters.
        options: of `Model`.

    Raises:
        UserError: the model is to be conditional on labels and on clusters.
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
        augmentation: DiffAugment | None = None,
        conditional: bool = False,
        num_discriminator_steps: int = 1,
        lr_schedule: Cosine | None = None,
        beta2_schedule: Cosine | None = None,
        ema_halflife_kimg: float = 10.0,
        skip_nonfinite: bool = False,
        max_grad_norm: float | None = None,
        resampling: Resampling | None = None,
        self_conditioning: SelfConditioning | None = None,
        **options: Any,
    ) -> None:
        super().__init__(image_shape, num_classes, **options)
        self.automatic_optimization = False
        if conditional and self_conditioning is not None:
            raise UserError("self_conditioning is for models without labels: leave it out, or set conditional to false")
        self.conditional = conditional
        self.clusters = Clusters(self.image_shape, self_conditioning) if self_conditioning else None
        width = self.clusters.width if self.clusters else num_classes if conditional else 0
        self.generator = generator(self.image_shape, width)
        self.discriminator = discriminator(self.image_shape, width)
        self.averaged = Averaged(self.generator, ema_halflife_kimg)
        self.generator_optimizer = generator_optimizer
        self.discriminator_optimizer = discriminator_optimizer
        self.objective = objective or NonSaturating()
        self.augmentation = augmentation
        self.num_discriminator_steps = num_discriminator_steps
        self.lr_schedule = lr_schedule
        self.beta2_schedule = beta2_schedule
        self.skip_nonfinite = skip_nonfinite
        self.max_grad_norm = max_grad_norm
        self.resampling = resampling
        if getattr(self.objective, "double_backward", False):
            self.not_compiled = (self.discriminator, self.augmentation)  # compiled code is not differentiated twice
        self.fake_logits: Tensor | None = None  # what held-out images are compared with, once a pass over them
        self.skipped_steps = 0
        self.batches_seen = 0  # over all epochs, which may be shorter than what is counted with it

    def configure_optimizers(self) -> list[Optimizer]:
        optimizers = [
            build_optimizer(self.generator_optimizer, self.generator),
            build_optimizer(self.discriminator_optimizer, self.discriminator),
        ]
        for optimizer in optimizers if self.beta2_schedule else []:
            if "betas" not in optimizer.defaults:
                raise UserError(
                    f"beta2_schedule is for Adam and its kin, {type(optimizer).__name__} has no betas: "
                    "choose another optimiser, or leave the schedule out"
                )
        return optimizers

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint |= {"batches_seen": self.batches_seen, "skipped_steps": self.skipped_steps}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.batches_seen = checkpoint.get("batches_seen", 0)
        self.skipped_steps = checkpoint.get("skipped_steps", 0)

    @torch.no_grad()
    def on_fit_start(self) -> None:
        """Find networks of another image shape before the first batch.

        Raises:
            UserError: the generator draws images of another shape than the data's.
        """
        condition = torch.zeros(2, self.num_classes, device=self.device) if self.conditional else None
        drawn = self.decode(torch.zeros(2, self.latent_dim, device=self.device), condition)
        if tuple(drawn.shape[1:]) != self.image_shape:
            raise UserError(
                f"{type(self.generator).__name__} draws images of shape {tuple(drawn.shape[1:])}, the data's are "
                f"{self.image_shape}: build the network from the image_shape that its factory is given"
            )

    def on_train_start(self) -> None:
        """Find the clusters, if there are any and the run is new; all processes have those of the first."""
        if self.clusters is not None and not self.clusters.is_fitted:
            loader: Any = self.trainer.train_dataloader
            self.clusters.fit(first_images(loader))
            for buffer in self.clusters.buffers():
                buffer.copy_(self.trainer.strategy.broadcast(buffer))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        real, labels = batch
        condition = self.condition(real, labels)
        g_optimizer, d_optimizer = self.scheduled_optimizers()
        z = torch.randn(len(real), self.z_dim, device=self.device)
        draw: Draw = cache(self.draw) if self.accumulate == 1 else self.draw  # once for both players, if undivided

        d_loss = self.play("discriminator", d_optimizer, partial(self.discriminator_loss, draw), real, z, condition)
        metrics: dict[str, Tensor | float] = {"train/discriminator_loss": d_loss}
        if (self.batches_seen + 1) % self.num_discriminator_steps == 0:
            self.discriminator.requires_grad_(False)
            g_loss = self.play("generator", g_optimizer, partial(self.generator_loss, draw), real, z, condition)
            self.discriminator.requires_grad_(True)
            metrics["train/generator_loss"] = g_loss

        images = self.advance(len(real))
        self.averaged.update(self.generator, images, self.images_seen)
        self.batches_seen += 1
        if self.batches_seen % ADAPT_EVERY == 0:
            self.adapt_augmentation(draw, real, z, condition, images * ADAPT_EVERY)
        self.track(metrics | self.settings())

    def discriminator_loss(self, draw: Draw, real: Tensor, z: Tensor, condition: Tensor | None) -> Tensor:
        """Loss (N,) of the discriminator on real images and those of the latents z."""
        images, judge = draw(z, condition)[0].detach(), partial(self.judge, condition=condition)
        return self.objective.discriminator_loss(judge, real, images, self.images_seen, self.batches_seen)

    def generator_loss(self, draw: Draw, real: Tensor, z: Tensor, condition: Tensor | None) -> Tensor:
        """Loss (N,) of the generator, whose images meet the real ones."""
        images, others = draw(z, condition)
        losses = self.objective.generator_loss(partial(self.judge, condition=condition), real, images)
        if self.clusters is None or condition is None or not len(others):
            return losses
        few = slice(len(others))
        return losses + self.clusters.diversity_weight * self.clusters.diversity_loss(images[few], others, condition[few])

    def draw(self, z: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """The images (N, C, H, W) of latents z, and others of the first clusters, which are to lie apart from them.

        There are N / 2 others, as half of the images tell for half of the price, and none where nobody asks for them.
        """
        if self.clusters is None or condition is None or not self.clusters.diversity_weight:
            images = self.generator(z, condition)
            return images, images[:0]
        few = (len(z) + 1) // 2
        latents = torch.cat([z, torch.randn_like(z[:few])])
        images, others = self.generator(latents, torch.cat([condition, condition[:few]])).split([len(z), few])
        return images, others

    def scheduled_optimizers(self) -> list[Any]:
        """The optimisers of generator and discriminator, set as the schedules say."""
        optimizers: Any = self.optimizers()
        self.set_learning_rates(optimizers, self.lr_schedule)
        if self.beta2_schedule is not None:
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["betas"] = (group["betas"][0], self.beta2_schedule(self.images_seen))
        return list(optimizers)

    def judge(self, images: Tensor, condition: Tensor | None) -> Tensor:
        """The discriminator's logits (N,) of augmented images, in float32 whatever it computed in."""
        logits: Tensor = self.discriminator(images if self.augmentation is None else self.augmentation(images), condition)
        return logits.float()

    def play(self, player: str, optimizer: Any, losses: Callable[..., Tensor], *batch: Tensor | None) -> Tensor:
        """One step of the network called `player`, none with a loss or gradient that is not finite; returns the mean loss."""
        optimizer.zero_grad()
        loss = self.accumulate_gradient(losses, *batch)
        if self.is_finite(loss, optimizer):
            optimizer.step()
        elif self.skip_nonfinite:
            self.skipped_steps += 1
        else:
            advice = f"lower the {player}'s learning rate, or leave such steps out with --model.init_args.skip_nonfinite true"
            raise UserError(self.nonfinite_message(f"the {player}'s", loss.item(), self.batches_seen + 1, advice))
        return loss

    def on_fit_end(self) -> None:
        if self.skipped_steps:
            rank_zero_warn(
                f"{self.skipped_steps} steps had a loss or gradient that is not finite and were left out: "
                "where these are many, lower the learning rates"
            )

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        if self.max_grad_norm is not None:
            self.shorten_gradient(optimizer, self.max_grad_norm)

    def is_finite(self, loss: Tensor, optimizer: Any) -> bool:
        """Whether the loss and the gradients are; a gradient scaler (16-mixed) sees to infinite gradients itself."""
        if getattr(self.trainer.precision_plugin, "scaler", None) is not None:
            return bool(loss.isfinite())
        grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        return bool((loss + torch.nn.utils.get_total_norm(grads)).isfinite())

    def settings(self) -> dict[str, Tensor | float]:
        """What changes in training besides the weights, for the loggers."""
        values: dict[str, Tensor | float] = {"train/lr": self.trainer.optimizers[0].param_groups[0]["lr"]}
        if self.augmentation is not None:
            values["train/augment_p"] = self.augmentation.p
        if self.skip_nonfinite:
            values["train/skipped_steps"] = self.skipped_steps
        return values

    @torch.no_grad()
    def adapt_augmentation(self, draw: Draw, real: Tensor, z: Tensor, condition: Tensor | None, images: int) -> None:
        """Let the augmentation see how well the discriminator tells real from generated, on all devices."""
        if self.augmentation is None or self.augmentation.target is None:
            return
        logits = torch.stack([self.judge(real, condition), self.judge(draw(z, condition)[0], condition)])
        gathered: Any = self.all_gather(logits)  # (devices, 2, N), or (2, N) of a single one
        real_logits, fake_logits = gathered.reshape(-1, *logits.shape).movedim(1, 0)
        self.augmentation.adapt(real_logits, fake_logits, images)

    def on_validation_epoch_start(self) -> None:
        self.fake_logits = None

    def on_test_epoch_start(self) -> None:
        self.fake_logits = None

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log_realness("val", batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log_realness("test", batch)

    @torch.no_grad()
    def log_realness(self, stage: str, batch: tuple[Tensor, Tensor]) -> None:
        """Log how real the discriminator finds held-out images: far below its training value, it has memorised."""
        if self.is_exported:
            return
        images, labels = batch
        asked = condition_vector(labels, self.num_classes) if self.conditional else None
        if self.fake_logits is None:
            self.fake_logits = self.judge_fakes(asked)
        realness = self.objective.realness(self.discriminator(images, self.condition(images, asked)), self.fake_logits).mean()
        self.log(f"{stage}/realness", realness, logger=False, sync_dist=True, batch_size=len(images))

    @torch.no_grad()
    def realness(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        """How real the discriminator finds images (N, C, H, W) in [-1, 1]: probabilities (N,), as its objective reads them.

        Args:
            images: the images judged.
            condition: their (N, num_classes) condition vectors; None for an unconditional model.
        """
        return self.objective.realness(
            self.discriminator(images, self.condition(images, condition)), self.judge_fakes(condition)
        )

    def judge_fakes(self, condition: Tensor | None) -> Tensor:
        """Logits (BELIEF_FAKES,) of generated images, under conditions in turn from `condition` (N, num_classes)."""
        asked = None if condition is None else condition[torch.arange(BELIEF_FAKES) % len(condition)]
        fakes = self.sample(range(BELIEF_FAKES), asked)
        logits: Tensor = self.discriminator(fakes, self.condition(fakes, asked))
        return logits

    def condition(self, images: Tensor, labels: Tensor | None) -> Tensor | None:
        """What the networks are told of images (N, C, H, W) with labels (N,) or (N, num_classes): (N, K), or None."""
        if self.clusters is not None:
            return self.clusters.nearest(images)
        return condition_vector(labels, self.num_classes) if self.conditional and labels is not None else None

    @property
    def z_dim(self) -> int:
        """Length of the generator's own latent z."""
        return int(self.generator.latent_dim)  # type: ignore[arg-type]

    @property
    def latent_dim(self) -> int:
        """Length of z, and behind it the one-hot cluster, if there are clusters."""
        return self.z_dim + (self.clusters.width if self.clusters else 0)

    @property
    def noise_dim(self) -> int:
        """How many normal numbers make a latent: z, and one for each group of clusters."""
        return self.z_dim + (self.clusters.num_groups if self.clusters else 0)

    def generate(
        self, seeds: Sequence[int], condition: Tensor | None, num_candidates: int | None = None, **options: Any
    ) -> Tensor:
        """Decode one latent per seed, or one of several: (len(seeds), C, H, W) in [-1, 1].

        Args:
            seeds, condition: as in `sample`.
            num_candidates: images drawn for each seed, of which the discriminator keeps one; the model's own unless given.
            options: of no other use here.
        """
        random = SeededRandom(seeds, self.device)
        resampling = self.resampling_among(num_candidates)
        if resampling is None:
            return self.decode(self.latent_of(random.normal((self.noise_dim,))), condition)
        latents = [self.latent_of(random.normal((self.noise_dim,))) for _ in range(resampling.num_candidates)]
        if self.clusters is not None:  # logits compare images of the same cluster
            cluster = latents[0][:, self.z_dim :]
            latents = [torch.cat([z[:, : self.z_dim], cluster], dim=1) for z in latents]
        drawn = torch.stack([self.decode(z, condition) for z in latents], dim=1)
        judged = zip(drawn.unbind(dim=1), latents, strict=True)
        logits = torch.stack([self.discriminator(images, self.told(z, condition)[1]) for images, z in judged], dim=1)
        kept = resampling.choose(logits, random.uniform(()))
        return drawn[torch.arange(len(drawn)), kept]

    def resampling_among(self, num_candidates: int | None) -> Resampling | None:
        """The model's own resampling, among `num_candidates` if given; None where there is no choice.

        Raises:
            UserError: the discriminator that would choose was not exported.
        """
        if num_candidates is None:
            return self.resampling
        if num_candidates > 1 and self.resampling is None and self.is_exported:
            raise UserError("there is no discriminator to choose among candidates in these weights: name a run directory")
        sharpness = 1.0 if self.resampling is None else self.resampling.sharpness
        return Resampling(num_candidates, sharpness) if num_candidates > 1 else None

    def latents(self, seeds: Sequence[int]) -> Tensor:
        """Latents (len(seeds), latent_dim), one per seed."""
        return self.latent_of(seeded_normal(seeds, (self.noise_dim,), self.device))

    def latent_of(self, noise: Tensor) -> Tensor:
        """Normal numbers (N, noise_dim) -> latents (N, latent_dim)."""
        if self.clusters is None:
            return noise
        return torch.cat([noise[:, : self.z_dim], self.clusters.drawn(noise[:, self.z_dim :])], dim=1)

    def decode(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Latents (N, latent_dim), classes or attributes -> images (N, C, H, W) in [-1, 1] of the averaged generator."""
        return self.averaged(*self.told(z, condition))

    def told(self, z: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What the generator gets of latents (N, latent_dim) and classes or attributes: its own latent, and the condition."""
        if self.clusters is not None:
            return z[:, : self.z_dim], z[:, self.z_dim :]
        return z, None if condition is None else condition_vector(condition, self.num_classes)

    def export_state(self) -> dict[str, Tensor]:
        """The averaged generator; the shares of clusters, and the discriminator, where they have a say in what is drawn."""
        state = super().export_state()
        if self.clusters is not None:
            state |= {SHARES: self.clusters.shares}
        if self.resampling is not None:
            state |= {DISCRIMINATOR + name: value for name, value in self.discriminator.state_dict().items()}
        return state

    def import_state(self, state: Mapping[str, Tensor]) -> None:
        judge = {name.removeprefix(DISCRIMINATOR): v for name, v in state.items() if name.startswith(DISCRIMINATOR)}
        if self.resampling is not None:
            if not judge:
                raise UserError("no discriminator is among these weights: name a run directory, or leave resampling out")
            self.discriminator.load_state_dict(judge)
        if self.clusters is not None:
            self.clusters.shares.copy_(state[SHARES])
        own = {name: value for name, value in state.items() if not name.startswith(DISCRIMINATOR) and name != SHARES}
        super().import_state(own)
