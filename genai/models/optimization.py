"""Parts of training steps: optimisers from YAML, learning-rate schedules, batches in parts, finite weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from lightning.pytorch.cli import instantiate_class
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

if TYPE_CHECKING:
    from genai.models.base import Model


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
    factory: Callable[..., Optimizer] | dict[str, Any], network: nn.Module, schedule: Callable[[int], float] | None, model: Model
) -> Optimizer | dict[str, Any]:
    """What `configure_optimizers` of a model with one optimiser returns, in Lightning's form.

    Args:
        factory: the optimiser, see `build_optimizer`.
        network: what it trains.
        schedule: factor on the initial learning rate as a function of the images seen; None for a constant learning rate.
        model: counts the images seen.
    """
    optimizer = build_optimizer(factory, network)
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
    """Tensors (N, ...) or None -> the same in `num_parts` nearly equal parts, fewer where N is less."""
    if num_parts == 1:
        return [batch]
    (size,) = {len(tensor) for tensor in batch if tensor is not None}
    num_parts = min(num_parts, size)
    columns = [num_parts * [None] if tensor is None else tensor.tensor_split(num_parts) for tensor in batch]
    return list(zip(*columns, strict=True))


def has_finite_weights(path: Path) -> bool:
    """Whether no weight of the checkpoint at `path` is infinite or NaN."""
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    return all(bool(weight.isfinite().all()) for weight in state.values())


def log_interval(trainer: L.Trainer) -> int:
    """The trainer's `log_every_n_steps`, which Lightning sets where a type checker cannot see it."""
    return int(trainer.log_every_n_steps)  # type: ignore[attr-defined]
