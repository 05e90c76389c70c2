"""Parts of training steps: optimisers from YAML, gradients in microbatches, finite weights."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.cli import instantiate_class
from lightning.pytorch.strategies import DDPStrategy
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


def backward_in_microbatches(
    model: L.LightningModule, loss: Callable[..., Tensor], num_microbatches: int, *batch: Tensor | None
) -> Tensor:
    """Backward pass of the mean loss of a batch, one microbatch after another; the graph of each is freed before the next.

    For models that optimise by hand: gradients are added to `.grad`, and several devices exchange them once, with the last
    microbatch. The sum of the gradients does not depend on `num_microbatches`.

    Args:
        model: attached to a Trainer.
        loss: (microbatch of each tensor of the batch) -> unreduced loss (n,).
        num_microbatches: parts that the batch is split into, fewer where it has fewer rows.
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


def has_finite_weights(path: Path) -> bool:
    """Whether no weight of the checkpoint at `path` is infinite or NaN."""
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    return all(bool(weight.isfinite().all()) for weight in state.values())


def log_interval(trainer: L.Trainer) -> int:
    """The trainer's `log_every_n_steps`, which Lightning sets where a type checker cannot see it."""
    return int(trainer.log_every_n_steps)  # type: ignore[attr-defined]
