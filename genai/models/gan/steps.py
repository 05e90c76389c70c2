"""Optimiser steps of a GAN: microbatches, gradient clipping, non-finite values and schedules."""

from collections.abc import Callable

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.optim import Optimizer

from genai.errors import UserError, check_at_least
from genai.models.base import Model
from genai.models.optimization import backward_in_microbatches, gradient_norm, nonfinite_error, parameters_of
from genai.models.schedules import Cosine


class UpdateStep(nn.Module):
    """One step of one optimiser: backward pass, check for non-finite values, gradient clipping, update of the weights.

    A step with an infinite or NaN loss or gradient changes no weight. It stops the fit, or it is skipped and counted. Under a
    gradient scaler (16-mixed) only the loss is checked, because the scaler itself skips steps with a non-finite gradient.

    Args:
        num_microbatches: parts that a batch is split into, for less memory; the update is that of the whole batch.
        max_grad_norm: a gradient with a larger norm is scaled to this norm; None for no limit.
        skip_nonfinite: skip a non-finite step instead of stopping the fit.

    Raises:
        UserError: `num_microbatches` is less than 1.
    """

    skipped: Tensor  # (), int64: skipped steps of both networks, over all fits of a run

    def __init__(self, num_microbatches: int, max_grad_norm: float | None, skip_nonfinite: bool) -> None:
        super().__init__()
        check_at_least("num_microbatches", num_microbatches, 1)
        self.num_microbatches = num_microbatches
        self.max_grad_norm = max_grad_norm
        self.skip_nonfinite = skip_nonfinite
        self.register_buffer("skipped", torch.tensor(0))

    def step(self, model: Model, name: str, optimizer: Optimizer, loss: Callable[..., Tensor], *batch: Tensor | None) -> Tensor:
        """Update the weights of `optimizer` once; returns the mean loss over the batches of all devices.

        The step bypasses Lightning's own count of steps: see `count_batch`.

        Args:
            model: attached to a Trainer.
            name: of the network, for messages.
            optimizer: torch's, not Lightning's wrapper.
            loss: (microbatch of each tensor of the batch) -> unreduced loss (n,).
            batch: tensors (N, ...) or None.

        Raises:
            UserError: the loss or the gradient is not finite and `skip_nonfinite` is False.
        """
        optimizer.zero_grad()
        mean_loss = backward_in_microbatches(model, loss, self.num_microbatches, *batch)
        norm = gradient_norm(model.trainer.strategy, optimizer)
        scaler = getattr(model.trainer.precision_plugin, "scaler", None)
        if bool((mean_loss if scaler else mean_loss + norm).isfinite()):
            if self.max_grad_norm is not None:
                scale = scaler.get_scale() if scaler else 1.0  # the gradients are those of the scaled loss
                torch.nn.utils.clip_grads_with_norm_(parameters_of(optimizer), self.max_grad_norm * scale, norm)
            with model.trainer.profiler.profile("optimizer_step"):  # type: ignore[attr-defined]
                model.trainer.strategy.optimizer_step(optimizer, nothing, model)
        elif self.skip_nonfinite:
            self.skipped += 1
            rank_zero_warn(f"skipped a step of the {name} with a non-finite loss or gradient: train/skipped_steps counts them")
        else:
            advice = f"lower the {name}'s learning rate, or skip such steps with --model.init_args.skip_nonfinite true"
            raise nonfinite_error(
                model.trainer,
                f"the {name}'s loss or gradient is not finite (loss {mean_loss.item()})",
                model.global_step + 1,
                advice,
            )
        return mean_loss


def nothing() -> None:
    """The closure of an optimiser step whose gradients are already computed."""


def apply_schedules(optimizer: Optimizer, images_seen: int, lr: Cosine | None, beta2: Cosine | None) -> None:
    """Set the learning rate (a factor on the initial one) and Adam's second decay rate of `optimizer`."""
    for group in optimizer.param_groups:
        if lr is not None:
            group["lr"] = group["initial_lr"] * lr(images_seen)
        if beta2 is not None:
            group["betas"] = (group["betas"][0], beta2(images_seen))


def check_betas(optimizer: Optimizer) -> None:
    """Raise UserError unless `optimizer` has the decay rates that a beta2_schedule sets."""
    if "betas" not in optimizer.defaults:
        raise UserError(
            f"beta2_schedule is for Adam and its variants, {type(optimizer).__name__} has no betas: "
            "choose another optimiser, or leave the schedule out"
        )
