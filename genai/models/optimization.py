"""Parts of training steps: optimisers from YAML, learning-rate schedules, gradients in microbatches, finite weights."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from lightning.pytorch.cli import instantiate_class
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, Strategy
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from genai.errors import UserError

if TYPE_CHECKING:
    from genai.models.base import Model


OPTIONS_OF_FLAGS = {"gradient_clip_val": "max_grad_norm", "accumulate_grad_batches": "num_microbatches"}
"""Trainer flags that Lightning refuses for models with manual optimisation -> the option of these models instead."""


def build_optimizer(factory: Callable[..., Optimizer] | dict[str, Any], network: nn.Module) -> Optimizer:
    """The optimiser of `network`, its learning rate kept as `initial_lr` for schedules.

    A model built in Python, not by the command line, has its default as a dict of class_path and init_args.
    """
    parameters = network.parameters()
    optimizer: Optimizer = instantiate_class(parameters, factory) if isinstance(factory, dict) else factory(parameters)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


def optimizer_and_schedule(
    factory: Callable[..., Optimizer] | dict[str, Any],
    network: nn.Module,
    schedule: Callable[[int], float] | None,
    model: Model,
) -> Optimizer | dict[str, Any]:
    """What `configure_optimizers` of a model with one optimiser returns, in Lightning's form.

    Args:
        factory: the optimiser, see `build_optimizer`.
        network: what it trains.
        schedule: factor on the initial learning rate as a function of the images seen; None for a constant learning rate.
        model: counts the images seen.
    """
    return with_schedule(build_optimizer(factory, network), schedule, model)


def with_schedule(optimizer: Optimizer, schedule: Callable[[int], float] | None, model: Model) -> Optimizer | dict[str, Any]:
    """`optimizer_and_schedule` of an optimiser that is there already."""
    if schedule is None:
        return optimizer
    scheduler = ImagesSeenLR(optimizer, lambda: schedule(model.images_seen))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step", "name": "train/lr"}}


class ImagesSeenLR(LRScheduler):
    """The learning rate is `initial_lr * factor()`, where `factor` depends on the images seen.

    Lightning steps it after each step of the optimiser, so a training step has the learning rate of the images seen before it.
    The model's checkpoint holds the images seen and the optimiser's holds `initial_lr`: the schedule itself has no state, and
    an option that is changed on resuming takes effect.

    Args:
        optimizer: its groups of parameters have `initial_lr`.
        factor: the current factor on the initial learning rate.
    """

    def __init__(self, optimizer: Optimizer, factor: Callable[[], float]) -> None:
        self.factor = factor
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """The learning rate of each group of parameters."""
        return [group["initial_lr"] * self.factor() for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Set the learning rates to those of the restored optimiser and images seen."""
        for group, lr in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = lr


def split_batch(num_parts: int, *batch: Tensor | None) -> list[tuple[Any, ...]]:
    """Tensors (N, ...) or None -> the same in `num_parts` nearly equal parts, or in N if that is less."""
    if num_parts == 1:
        return [batch]
    (size,) = {len(tensor) for tensor in batch if tensor is not None}
    num_parts = min(num_parts, size)
    columns = [num_parts * [None] if tensor is None else tensor.tensor_split(num_parts) for tensor in batch]
    return list(zip(*columns, strict=True))


def backward_in_microbatches(
    model: L.LightningModule, loss: Callable[..., Tensor], num_microbatches: int, *batch: Tensor | None
) -> Tensor:
    """Backward pass of the mean loss of a batch, one microbatch after another; the graph of each is freed before the next.

    For models with manual optimisation: gradients are added to `.grad`, and several devices exchange them once, with the last
    microbatch. The sum of the gradients does not depend on `num_microbatches`.

    Args:
        model: attached to a Trainer.
        loss: (microbatch of each tensor of the batch) -> unreduced loss (n,).
        num_microbatches: parts that the batch is split into, fewer if it has fewer rows.
        batch: tensors (N, ...) or None, at least one of them a tensor.

    Returns:
        The mean loss over the batches of all devices, a scalar without gradient, the same on every device.
    """
    microbatches = split_batch(num_microbatches, *batch)
    num_images = next(len(tensor) for tensor in batch if tensor is not None)
    total = torch.zeros((), device=model.device)
    for i, microbatch in enumerate(microbatches):
        share = loss(*microbatch).sum() / num_images
        with nullcontext() if i + 1 == len(microbatches) else without_gradient_exchange(model):
            model.manual_backward(share)
        total += share.detach()
    mean: Tensor = model.trainer.strategy.reduce(total, reduce_op="mean")
    return mean


def without_gradient_exchange(model: L.LightningModule) -> AbstractContextManager[None]:
    """A context in which the backward pass adds up gradients on each device alone."""
    strategy = model.trainer.strategy
    return strategy.block_backward_sync() if isinstance(strategy, DDPStrategy) else nullcontext()


def clip_gradient_norm(strategy: Strategy, optimizer: Optimizer, max_norm: float | None) -> Tensor:
    """Scale the gradient of all parameters of `optimizer` to the norm `max_norm` if it is larger; None does not clip.

    Returns the norm before, see `gradient_norm`.
    """
    norm = gradient_norm(strategy, optimizer)
    torch.nn.utils.clip_grads_with_norm_(parameters_of(optimizer), max_norm or math.inf, norm)
    return norm


def gradient_norm(strategy: Strategy, optimizer: Optimizer) -> Tensor:
    """The norm of the gradient of all parameters of `optimizer`, a scalar; under FSDP that of all shards."""
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters_of(optimizer) if p.grad is not None])
    return strategy.reduce(norm.square(), reduce_op="sum").sqrt() if isinstance(strategy, FSDPStrategy) else norm


def parameters_of(optimizer: Optimizer) -> list[nn.Parameter]:
    """The parameters of all groups of an optimiser."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def nonfinite_error(trainer: L.Trainer, what: str, step: int, advice: str) -> UserError:
    """The error of a non-finite loss or gradient: `what` and when, the last good checkpoint, and the advice."""
    model: Any = trainer.lightning_module
    folders = [Path(callback.dirpath) for callback in trainer.checkpoint_callbacks if callback.dirpath]  # type: ignore[attr-defined]
    paths = [folder / name for name in ("last.ckpt", "best.ckpt") for folder in folders]
    good = next((path for path in paths if path.is_file() and has_finite_weights(path)), None)
    place = shlex.quote(str(good)) if good else "none yet"
    return UserError(f"{what} in step {step}, after {model.images_seen} {model.unit}; last good checkpoint: {place}; {advice}")


def has_finite_weights(path: Path) -> bool:
    """Whether the checkpoint at `path` can be read, and no weight of it is infinite or NaN."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    except Exception:  # a damaged file makes torch.load raise anything
        return False
    return all(bool(weight.isfinite().all()) for weight in state.values())


def count_batch(trainer: L.Trainer) -> None:
    """Add one batch to `trainer.global_step`, which `max_steps` limits.

    Lightning's count of a model with manual optimisation is one per step of a wrapped optimiser: two, one or (if a step is
    skipped) none per batch of a GAN, and none of a model without an optimiser.
    """
    progress = trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
    progress.increment_ready()
    progress.increment_completed()


def log_interval(trainer: L.Trainer) -> int:
    """The trainer's `log_every_n_steps`, which Lightning sets in a way that a type checker does not see."""
    return int(trainer.log_every_n_steps)  # type: ignore[attr-defined]
