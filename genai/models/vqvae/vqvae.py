"""VQ-VAE and its kin: images as grids of codes, and a transformer that knows which codes follow which.

Two stages in one fit. First the tokenizer learns: encoder, quantizer and decoder (van den Oord et al. 2017, arXiv:1711.00937).
Then its averaged copy is frozen and the prior learns the codes of the images, in raster order, after their label. The stage
is a function of the images seen, so that a run resumes in either.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from genai.errors import UserError
from genai.models.base import ImageModel, NetworkFactory, Shape
from genai.models.conditions import drop_condition, encode_labels
from genai.models.ema import Averaged
from genai.models.optimization import build_optimizer
from genai.models.schedules import Cosine
from genai.models.seeds import seeded_uniform
from genai.models.vqvae.code_sampling import Drawing, draw_sequence
from genai.models.vqvae.codebook import CodeScores
from genai.models.vqvae.quantizers import Quantized, Quantizer, VectorQuantizer, perplexity, usage
from genai.models.vqvae.reconstruction import Pixelwise, Reconstruction
from genai.networks.transformer import Cache

ADAM = {"class_path": "torch.optim.Adam", "init_args": {"lr": 1e-3, "betas": [0.9, 0.99]}}
PriorFactory = Callable[[int, int, int], nn.Module]  # (codes, length of a sequence, width of the condition) -> network


class Coded(NamedTuple):
    """output (N, C, H, W) of the decoder, float32; the codes; z (N, dim, h, w) of the encoder, without its gradient."""

    output: Tensor
    quantized: Quantized
    z: Tensor

    def detached(self) -> "Coded":
        """The same without what a gradient needs."""
        return Coded(self.output.detach(), Quantized(*(part.detach() for part in self.quantized)), self.z)


class Tokenizer(nn.Module):
    """Encoder, quantizer and decoder.

    Args:
        encoder: images (N, C, H, W) -> vectors (N, dim, h, w).
        quantizer: vectors -> codes.
        decoder: codes (N, dim, h, w) -> output (N, C, H, W).
    """

    def __init__(self, encoder: nn.Module, quantizer: Quantizer, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.quantizer = quantizer
        self.decoder = decoder

    def forward(self, x: Tensor) -> Coded:
        """x (N, C, H, W) in [-1, 1] -> its vectors, their codes and what the decoder makes of these."""
        z = self.encoder(x)
        quantized = self.quantizer(z)
        return Coded(self.decoder(quantized.z_q).float(), quantized, z.detach())

    @torch.no_grad()
    def grid(self, image_shape: Shape) -> tuple[int, int]:
        """Height and width of the grid of codes of an image."""
        height, width = self.encoder(torch.zeros(1, *image_shape)).shape[2:]
        return height, width


class VQVAE(ImageModel):
    """A tokenizer, then a prior over its codes.

    Args:
        image_shape: (C, H, W), linked from the data.
        num_classes: width of the condition (classes, attributes, words of the vocabulary), linked from the data.
        tokenizer_kimg: thousands of images that the tokenizer learns from; the prior learns from all later ones.
        encoder: factory of the network image -> (N, dim, h, w), called with the image's shape and the quantizer's dim.
        decoder: factory of the network (N, dim, h, w) -> image, called in the same way.
        prior: factory of the network (codes, condition, cache) -> logits, such as a Transformer.
        quantizer: VectorQuantizer unless another is given.
        reconstruction: what the tokenizer minimises besides the quantizer's loss; the squared error unless another is given.
        tokenizer_optimizer: any torch optimiser.
        prior_optimizer: any torch optimiser.
        conditional: tell the prior the label of the data; otherwise the labels are unused.
        condition_dropout: share of the labels left out in training, so that guidance has an unconditional prior.
        wrong_codes: share of the codes before the one to predict that are random in training, so that the prior does not
            depend on each of them, some of which will be ill drawn.
        drawing: how codes are drawn unless `sample` is told otherwise.
        max_grad_norm: longer gradients are shortened to this; None for no limit.
        tokenizer_schedule: factor on the tokenizer's learning rate, a function of the images seen.
        prior_schedule: factor on the prior's learning rate, a function of the images seen by the prior.
        ema_halflife_kimg: half-life of the averaged networks, in thousands of images.
        options: of `Model`.
    """

    sample_chunk = 128

    def __init__(
        self,
        image_shape: Shape,
        num_classes: int,
        tokenizer_kimg: float,
        encoder: NetworkFactory,
        decoder: NetworkFactory,
        prior: PriorFactory,
        quantizer: Quantizer | None = None,
        reconstruction: Reconstruction | None = None,
        tokenizer_optimizer: OptimizerCallable = ADAM,  # type: ignore[assignment]
        prior_optimizer: OptimizerCallable = ADAM,  # type: ignore[assignment]
        conditional: bool = False,
        condition_dropout: float = 0.1,
        wrong_codes: float = 0.0,
        drawing: Drawing | None = None,
        max_grad_norm: float | None = 1.0,
        tokenizer_schedule: Cosine | None = None,
        prior_schedule: Cosine | None = None,
        ema_halflife_kimg: float = 10.0,
        **options: Any,
    ) -> None:
        super().__init__(image_shape, num_classes, **options)
        self.automatic_optimization = False
        self.conditional = conditional
        quantizer = quantizer or VectorQuantizer()
        dim = quantizer.dim
        self.tokenizer = Tokenizer(encoder(self.image_shape, dim), quantizer, decoder(self.image_shape, dim))
        self.grid = self.tokenizer.grid(self.image_shape)
        self.prior = prior(quantizer.num_codes, math.prod(self.grid), num_classes if conditional else 0)
        self.averaged = Averaged(self.networks(), ema_halflife_kimg)
        self.reconstruction = reconstruction or Pixelwise()
        self.tokenizer_kimg = tokenizer_kimg
        self.tokenizer_optimizer = tokenizer_optimizer
        self.prior_optimizer = prior_optimizer
        self.condition_dropout = condition_dropout
        self.wrong_codes = wrong_codes
        self.drawing = drawing or Drawing()
        self.max_grad_norm = max_grad_norm
        self.tokenizer_schedule = tokenizer_schedule
        self.prior_schedule = prior_schedule

    def networks(self) -> nn.ModuleDict:
        """What is averaged."""
        return nn.ModuleDict({"tokenizer": self.tokenizer, "prior": self.prior})

    @property
    def averaged_tokenizer(self) -> Tokenizer:
        return self.averaged.network.get_submodule("tokenizer")  # type: ignore[return-value]

    @property
    def averaged_prior(self) -> nn.Module:
        return self.averaged.network.get_submodule("prior")

    @property
    def learns_tokenizer(self) -> bool:
        """Whether this is the first stage; a zoo entry has passed it."""
        return not self.is_exported and self.images_seen < 1000 * self.tokenizer_kimg

    # -- training --------------------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> list[Optimizer]:
        return [
            build_optimizer(self.tokenizer_optimizer, self.tokenizer),
            build_optimizer(self.prior_optimizer, self.prior),
        ]

    @torch.no_grad()
    def on_fit_start(self) -> None:
        """Find networks of another image shape before the first batch.

        Raises:
            UserError: the decoder draws images of another shape than the data's.
        """
        drawn = self.decode(torch.zeros(1, *self.grid, dtype=torch.long, device=self.device))
        if tuple(drawn.shape[1:]) != self.image_shape:
            raise UserError(
                f"the decoder draws images of shape {tuple(drawn.shape[1:])}, the data's are {self.image_shape}: "
                "give it the encoder's channels and patch_size"
            )

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        optimizer = self.scheduled_optimizer()
        was_learning = self.learns_tokenizer
        figures = self.tokenizer_step(optimizer, images) if was_learning else self.prior_step(optimizer, images, labels)
        num_images = self.advance(len(images))
        self.averaged.update(self.networks(), num_images, self.images_seen)
        if was_learning and not self.learns_tokenizer:
            self.freeze_tokenizer()
        figures |= {"loss": self.loss_now, "lr": optimizer.param_groups[0]["lr"]}
        self.track({f"train/{name}": value for name, value in figures.items()})

    def scheduled_optimizer(self) -> Any:
        """The optimiser of the stage, its learning rate set for the images that the stage has seen."""
        optimizers: Any = self.optimizers()
        tokenizer, prior = optimizers
        if self.learns_tokenizer:
            self.set_learning_rates([tokenizer], self.tokenizer_schedule)
            return tokenizer
        schedule, before = self.prior_schedule, round(1000 * self.tokenizer_kimg)
        self.set_learning_rates([prior], None if schedule is None else lambda seen: schedule(seen - before))
        return prior

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        self.limit_gradients(optimizer, self.loss_now, self.max_grad_norm)

    def tokenizer_step(self, optimizer: Any, x: Tensor) -> dict[str, Any]:
        """One step of encoder and decoder, after which the codes learn too; figures for the loggers."""
        parts: list[Coded] = []
        self.descend(optimizer, partial(self.tokenizer_loss, parts=parts), x)
        indices = torch.cat([part.quantized.indices for part in parts])
        self.tokenizer.quantizer.learn(torch.cat([part.z for part in parts]), indices)
        counts = usage(indices, self.tokenizer.quantizer.num_codes)
        commitment = torch.cat([part.quantized.loss for part in parts]).mean()
        figures = {"codes_used": (counts > 0).sum().float(), "perplexity": perplexity(counts), "commitment": commitment}
        return figures | {"reconstruction": self.loss_now - commitment}

    def tokenizer_loss(self, x: Tensor, parts: list[Coded]) -> Tensor:
        """Distance of x (N, C, H, W) from its reconstruction, and of its vectors from their codes: (N,), kept in `parts`."""
        coded = self.tokenizer(x)
        parts.append(coded.detached())
        loss: Tensor = self.reconstruction(coded.output, x) + coded.quantized.loss
        return loss

    def prior_step(self, optimizer: Any, x: Tensor, labels: Tensor) -> dict[str, Any]:
        """One step of the prior; figures for the loggers."""
        codes = self.encode(x)
        shown = with_wrong(codes, self.tokenizer.quantizer.num_codes, self.wrong_codes)
        told = drop_condition(self.condition(labels), self.condition_dropout)
        return {"prior_nats": self.descend(optimizer, self.prior_loss, codes, shown, told)}

    def prior_loss(self, codes: Tensor, shown: Tensor, told: Tensor | None) -> Tensor:
        """Mean over the codes (N, h, w) of an image of the nats of each under the prior in training: (N,)."""
        return code_nats(self.prior, codes, told, shown).mean(dim=1)

    def freeze_tokenizer(self) -> None:
        """Put the averaged tokenizer in the place of the trained one: from here on neither changes."""
        self.tokenizer.load_state_dict(self.averaged_tokenizer.state_dict())

    def on_fit_end(self) -> None:
        if self.learns_tokenizer:
            rank_zero_warn(
                f"the prior has learned nothing yet: it begins after {self.tokenizer_kimg:g} thousand images, "
                f"{self.images_seen / 1000:g} were seen; go on with more epochs, or lower tokenizer_kimg"
            )

    def condition(self, labels: Tensor | None) -> Tensor | None:
        """What the prior is told of `labels`, see `encode_labels`; None for an unconditional model."""
        return encode_labels(labels, self.num_classes) if self.conditional and labels is not None else None

    # -- scores ----------------------------------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        num_codes = self.tokenizer.quantizer.num_codes
        self.scores = CodeScores(num_codes, math.prod(self.image_shape), math.prod(self.grid))

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.score(batch)

    def on_validation_epoch_end(self) -> None:
        self.publish("val")

    def on_test_epoch_start(self) -> None:
        self.on_validation_epoch_start()

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.score(batch)

    def on_test_epoch_end(self) -> None:
        self.publish("test")

    def score(self, batch: tuple[Tensor, Tensor]) -> None:
        """Add how the averaged networks reconstruct a batch and, once there is a prior, predict its codes."""
        images, labels = batch
        output, quantized, _ = self.averaged_tokenizer(images)
        nats = None if self.learns_tokenizer else code_nats(self.averaged_prior, quantized.indices, self.condition(labels))
        self.scores.update(self.reconstruction(output, images), quantized.indices, nats)

    def publish(self, split: str) -> None:
        """Log the split's scores at `images_seen`."""
        metrics = {f"{split}/{name}": value for name, value in self.scores.compute().items()}
        self.log_dict(metrics, logger=False, sync_dist=True)
        if self.trainer.sanity_checking:
            return
        for logger in self.loggers:
            logger.log_metrics(metrics, step=self.images_seen)
        if split == "test":
            rank_zero_info("\n".join(f"{name:<28} {value:.4f}" for name, value in metrics.items()))

    # -- codes and images ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] -> codes (N, h, w) int64 of the averaged tokenizer."""
        tokenizer = self.averaged_tokenizer
        indices: Tensor = tokenizer.quantizer(tokenizer.encoder(x)).indices
        return indices

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Codes (N, h, w) int64 -> images (N, C, H, W) in [-1, 1] of the averaged tokenizer."""
        tokenizer = self.averaged_tokenizer
        return self.reconstruction.image(tokenizer.decoder(tokenizer.quantizer.codes(codes)).float())

    def reconstruct(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] -> what is left of them in their codes; the tokenizer is told no condition."""
        return self.decode(self.encode(images))

    def generate(self, seeds: Sequence[int], condition: Tensor | None, **settings: Any) -> Tensor:
        """Draw the codes of one image per seed and decode them: (len(seeds), C, H, W) in [-1, 1].

        Args:
            seeds: of the uniform numbers, one for each code.
            condition: classes, attributes or words; see `condition`.
            settings: of `Drawing`, in the place of the model's own.
        """
        drawing = replace(self.drawing, **settings)
        u = seeded_uniform(seeds, (math.prod(self.grid),), self.device)
        codes = draw_sequence(self.next_logits(condition, drawing.guidance_scale), u, drawing)
        return self.decode(codes.unflatten(1, self.grid))

    def next_logits(self, condition: Tensor | None, guidance_scale: float) -> Callable[[Tensor], Tensor]:
        """The averaged prior as a function that is given the codes drawn last, (N, 1) or none (N, 0) -> logits (N, K).

        Guided, the logits are l_u + scale (l_c - l_u), with the label and without it (Ho & Salimans 2022, arXiv:2207.12598).

        Raises:
            UserError: there is no label to be guided by.
        """
        told = self.condition(condition)
        caches = Cache(), Cache()
        if guidance_scale != 1 and told is None:
            raise UserError("an unconditional model has nothing to be guided by: leave guidance_scale out")

        def logits(tokens: Tensor) -> Tensor:
            asked: Tensor = self.averaged_prior(tokens, told, caches[0])[:, -1].float()
            if guidance_scale == 1 or told is None:
                return asked
            unasked = self.averaged_prior(tokens, torch.zeros_like(told), caches[1])[:, -1].float()
            return unasked + guidance_scale * (asked - unasked)

        return logits


def code_nats(prior: nn.Module, codes: Tensor, condition: Tensor | None, shown: Tensor | None = None) -> Tensor:
    """-log p of each of the codes (N, h, w), given those before it and the condition: (N, h * w) nats.

    Args:
        prior: the network in training, or its average.
        codes: (N, h, w) int64.
        condition: what the prior is told.
        shown: what it is shown in the place of the codes before, (N, h, w); None shows them as they are.
    """
    seen = (codes if shown is None else shown).flatten(1)[:, :-1]
    logits = prior(seen, condition).float()  # (N, h * w, K)
    return cross_entropy(logits.transpose(1, 2), codes.flatten(1), reduction="none")


def with_wrong(codes: Tensor, num_codes: int, share: float) -> Tensor:
    """`codes` (N, h, w), a `share` of which are random ones."""
    is_wrong = torch.rand(codes.shape, device=codes.device) < share
    return torch.where(is_wrong, torch.randint_like(codes, num_codes), codes)
