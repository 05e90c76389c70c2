"""Parts of training steps: optimisers from YAML, batches in parts, finite weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.cli import instantiate_class
from torch import Tensor, nn
from torch.optim import Optimizer


def build_optimizer(factory: Callable[..., Optimizer] | dict[str, Any], network: nn.Module) -> Optimizer:
    """The optimiser of `network`, its learning rate kept as `initial_lr` for schedules.

    A model built in Python, not by the command line, has its default as a dict of class_path and init_args.
    """
    parameters = network.parameters()
    optimizer: Optimizer = instantiate_class(parameters, factory) if isinstance(factory, dict) else factory(parameters)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


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
