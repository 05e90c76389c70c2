"""Sizes of the networks, images per step and learning rates, printed before the first step."""

from typing import Any

import lightning as L
from lightning.pytorch.utilities import rank_zero_info
from torch import nn
from torch.optim import Optimizer

from genai.data.module import DataModule
from genai.models.precision import is_slow


class TrainingSummary(L.Callback):
    """Prints the sizes of the splits and networks, the images of a step, the learning rates, and a slow precision."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if is_slow(trainer.precision, pl_module.device):
            rank_zero_info(
                f"precision {trainer.precision} is slow on this processor, without bfloat16: --trainer.precision 32 is faster"
            )
        if isinstance(data := getattr(trainer, "datamodule", None), DataModule):
            rank_zero_info(f"data: {data.describe()}")
        if sizes := describe_networks(pl_module):
            rank_zero_info(f"parameters: {sizes}")
        batch_size = images_per_batch(trainer.train_dataloader)
        if batch_size is None:
            return
        microbatches = int(getattr(pl_module, "num_microbatches", 1))
        length = int(getattr(pl_module, "context_length", 0))  # of a text model
        step = describe_step(trainer.world_size, batch_size, trainer.accumulate_grad_batches, microbatches, length)
        trained = [optimizer for optimizer in trainer.optimizers if optimizer.param_groups]  # no mock
        rates = ", ".join(describe_rate(optimizer, pl_module) for optimizer in trained)
        rank_zero_info(f"{step}\nlearning rate: {rates}" if rates else step)


def images_per_batch(loader: Any) -> int | None:
    """The images of a training batch on one device: the batch size, or all the images of a smaller split.

    None if the loader has no batch size.
    """
    batch_size, sampler = getattr(loader, "batch_size", None), getattr(loader, "sampler", None)
    if batch_size is None or sampler is None:
        return batch_size
    return min(int(batch_size), len(sampler))


def describe_step(devices: int, batch_size: int, batches: int = 1, microbatches: int = 1, length: int = 0) -> str:
    """`2 devices x 64 images x 4 accumulated batches = 512 images per step (each batch in 2 parts)`.

    For text, with a `length` of the windows: `1 device x 12 windows x 64 tokens = 768 tokens per step`.
    """
    unit = "tokens" if length else "images"
    examples = [f"{batch_size} windows", f"{length} tokens"] if length else [f"{batch_size} images"]
    factors = [f"{devices} device{'s' if devices > 1 else ''}", *examples]
    if batches > 1:
        factors.append(f"{batches} accumulated batches")
    parts = f" (each batch in {microbatches} parts)" if microbatches > 1 else ""
    return f"{' x '.join(factors)} = {devices * batch_size * (length or 1) * batches} {unit} per step{parts}"


def describe_networks(model: nn.Module) -> str:
    """`generator 699,200, discriminator 723,457`: the parameters that are trained, network by network."""
    sizes = {name: sum(p.numel() for p in child.parameters() if p.requires_grad) for name, child in model.named_children()}
    return ", ".join(f"{name} {size:,}" for name, size in sizes.items() if size)


def describe_rate(optimizer: Optimizer, model: nn.Module) -> str:
    """`generator 0.0002 (Adam)`."""
    groups = optimizer.param_groups
    name = trained_network(optimizer, model)
    rate = groups[0].get("initial_lr", groups[0]["lr"])
    parts = getattr(optimizer, "optimizers", None)
    if parts:  # a CombinedOptimizer
        return ", ".join(describe_rate(part, model) for part in parts)
    return f"{name} {float(rate):g} ({type(optimizer).__name__})"


def trained_network(optimizer: Optimizer, model: nn.Module) -> str:
    """The name of the first network of a model that an optimiser trains."""
    ours = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    return next(name for name, child in model.named_children() if any(id(p) in ours for p in child.parameters()))
