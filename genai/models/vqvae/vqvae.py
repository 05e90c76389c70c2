"""VQ-VAE: images as grids of codes, and a prior of the codes. Both stages are trained in one fit.

First the tokenizer is trained. Then its averaged copy is frozen and the prior learns the codes of the images. The stage is a
function of the images seen, so a run resumes in either stage.
"""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer

from genai.errors import check_at_least
from genai.models.base import Shape
from genai.models.conditions import drop_condition
from genai.models.optimization import OPTIONS_OF_FLAGS, backward_in_microbatches, build_optimizer
from genai.models.schedules import Cosine
from genai.models.vqvae.code_model import CodeModel
from genai.models.vqvae.metrics import CodePerplexity, CodesUsed
from genai.models.vqvae.prior import corrupt_codes
from genai.models.vqvae.quantizers import perplexity, usage
from genai.models.vqvae.tokenizer import TokenizerOutput

ADAM = {"class_path": "torch.optim.Adam", "init_args": {"lr": 1e-3, "betas": [0.9, 0.99]}}


class VQVAE(CodeModel):
    """Vector-quantised autoencoder with an autoregressive prior (van den Oord et al. 2017, arXiv:1711.00937), or FSQ.

    It has two optimisers and uses manual optimisation, with `max_grad_norm` and `num_microbatches` in place of the
    Trainer's flags.

    Args:
        image_shape: (C, H, W), linked from the data.
        num_classes: width of the condition (classes, attributes, words of the vocabulary), linked from the data.
        tokenizer_kimg: thousands of images that train the tokenizer; later ones train the prior.
        tokenizer_optimizer: any torch optimiser.
        prior_optimizer: any torch optimiser.
        condition_dropout: probability of the null condition in training, so that guidance has an unconditional prior.
        code_corruption: probability that a code which the prior sees in training is replaced by a random one. The prior then
            tolerates unlikely codes while sampling.
        max_grad_norm: gradients are clipped to this norm; None for no clipping.
        num_microbatches: parts that a batch is split into, to save memory; the update is that of the whole batch.
        tokenizer_schedule: factor on the tokenizer's learning rate, a function of the images seen.
        prior_schedule: factor on the prior's learning rate, a function of the images that the prior has seen.
        options: of `CodeModel`.
    """

    MANUAL_FLAGS: ClassVar = OPTIONS_OF_FLAGS
    val_metrics = ("reconstruction", "codes_used", "perplexity", "prior_nats", "code_bits_per_dim")

    def __init__(
        self,
        image_shape: Shape,
        num_classes: int,
        tokenizer_kimg: float,
        tokenizer_optimizer: OptimizerCallable = ADAM,  # type: ignore[assignment]
        prior_optimizer: OptimizerCallable = ADAM,  # type: ignore[assignment]
        condition_dropout: float = 0.1,
        code_corruption: float = 0.0,
        max_grad_norm: float | None = 1.0,
        num_microbatches: int = 1,
        tokenizer_schedule: Cosine | None = None,
        prior_schedule: Cosine | None = None,
        **options: Any,
    ) -> None:
        super().__init__(image_shape, num_classes, **options)
        check_at_least("num_microbatches", num_microbatches, 1)
        self.automatic_optimization = False
        self.codes_used, self.perplexity = CodesUsed(self.prior.num_codes), CodePerplexity(self.prior.num_codes)
        self.tokenizer_kimg = tokenizer_kimg
        self.tokenizer_optimizer = tokenizer_optimizer
        self.prior_optimizer = prior_optimizer
        self.condition_dropout = condition_dropout
        self.code_corruption = code_corruption
        self.max_grad_norm = max_grad_norm
        self.num_microbatches = num_microbatches
        self.tokenizer_schedule = tokenizer_schedule
        self.prior_schedule = prior_schedule

    @property
    def trains_tokenizer(self) -> bool:
        """Whether training is in the first stage; exported weights have passed it."""
        return not self.is_exported and self.images_seen < 1000 * self.tokenizer_kimg

    # -- training and evaluation -----------------------------------------------------------------------------------------

    def configure_optimizers(self) -> list[Optimizer]:
        return [
            build_optimizer(self.tokenizer_optimizer, self.tokenizer),
            build_optimizer(self.prior_optimizer, self.prior),
        ]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        optimizers: Any = self.optimizers()
        was_first_stage = self.trains_tokenizer
        optimizer = optimizers[0] if was_first_stage else optimizers[1]
        optimizer.zero_grad()
        if was_first_stage:
            scale_learning_rate(optimizer, self.tokenizer_schedule, self.images_seen)
            outputs: list[TokenizerOutput] = []  # one for each microbatch

            def tokenizer_loss(x: Tensor) -> Tensor:
                output = self.tokenizer(x)
                outputs.append(output.detach())
                return self.tokenizer.loss(output, x)

            loss = backward_in_microbatches(self, tokenizer_loss, self.num_microbatches, images)
            optimizer.step()
            self.tokenizer.update_codebook(outputs)
            commitment = torch.cat([output.quantized.loss for output in outputs]).mean()
            counts = usage(torch.cat([output.quantized.indices for output in outputs]), self.prior.num_codes)
            metrics = {"reconstruction": loss - commitment, "commitment": commitment}
            metrics |= {"codes_used": (counts > 0).sum().float(), "perplexity": perplexity(counts)}
        else:
            scale_learning_rate(optimizer, self.prior_schedule, self.images_seen - round(1000 * self.tokenizer_kimg))
            with torch.no_grad():
                codes = self.averaged_network.tokenizer.encode(images)  # (N, h, w)
            inputs = corrupt_codes(codes, self.prior.num_codes, self.code_corruption)
            condition = drop_condition(self.encode_condition(labels), self.condition_dropout)
            loss = backward_in_microbatches(self, self.prior.loss, self.num_microbatches, codes, inputs, condition)
            optimizer.step()
            metrics = {"prior_nats": loss}
        self.count_images(len(images))
        self.update_averages()
        if was_first_stage and not self.trains_tokenizer:  # from here on the tokenizer is the averaged one
            self.tokenizer.load_state_dict(self.averaged_network.tokenizer.state_dict())
        self.step_log.record({"train/loss": loss}, prog_bar=True)
        self.step_log.record({"train/lr": optimizer.param_groups[0]["lr"]})
        self.step_log.record({f"train/{name}": value for name, value in metrics.items()})

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        self.configure_gradient_clipping(optimizer, self.max_grad_norm)

    def on_fit_end(self) -> None:
        if self.trains_tokenizer:
            rank_zero_warn(
                f"the prior is untrained: its training begins after {self.tokenizer_kimg:g} thousand images, "
                f"{self.images_seen / 1000:g} were seen; train for more epochs, or lower tokenizer_kimg"
            )

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.evaluate(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.evaluate(batch, "test")

    def evaluate(self, batch: tuple[Tensor, Tensor], split: str) -> None:
        """Log how well the averaged networks reconstruct a batch and, in the second stage, predict its codes.

        Logged: `reconstruction` (mean over the pixels), `codes_used`, `perplexity`; with a prior `prior_nats` (per code) and
        `code_bits_per_dim`: the bits that the prior needs for the codes of an image, divided by pixels times channels. This is
        no likelihood of the image, because the codes do not determine it.
        """
        images, labels = batch
        output = self.averaged_network.tokenizer(images)
        codes = output.quantized.indices
        metrics = {"reconstruction": self.averaged_network.tokenizer.reconstruction(output.decoded, images).mean()}
        if not self.trains_tokenizer:
            nats = self.averaged_network.prior.nats(codes, codes, self.encode_condition(labels))  # (N, h * w)
            bits_per_dim = nats.sum(dim=1).mean() / (math.prod(self.image_shape) * math.log(2))
            metrics |= {"prior_nats": nats.mean(), "code_bits_per_dim": bits_per_dim}
        means = {f"{split}/{name}": value for name, value in metrics.items()}
        self.log_dict(means, batch_size=len(images), sync_dist=True)
        for name, metric in {"codes_used": self.codes_used, "perplexity": self.perplexity}.items():
            metric.update(codes)
            self.log(f"{split}/{name}", metric)


def scale_learning_rate(optimizer: Any, schedule: Callable[[int], float] | None, images_seen: int) -> None:
    """Set the learning rate to `initial_lr * schedule(images_seen)`; without a schedule it stays as it is."""
    if schedule is not None:
        factor = schedule(images_seen)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
