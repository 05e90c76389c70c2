"""What a step is, in lines before the first one."""

from typing import Any

import lightning as L
from lightning.pytorch.utilities import rank_zero_info
from torch import nn
from torch.optim import Optimizer

from genai.models.precision import is_slow


class Announcement(L.Callback):
    """Prints the sizes of the networks, the images of a step on all devices, the learning rates, and a slow precision."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if is_slow(trainer.precision, pl_module.device):
            rank_zero_info(
                f"precision {trainer.precision} is slow on this processor, without bfloat16: --trainer.precision 32 is faster"
            )
        if sizes := describe_networks(pl_module):
            rank_zero_info(f"parameters: {sizes}")
        batch_size = images_per_batch(trainer.train_dataloader)
        if batch_size is None:
            return
        microbatches = int(getattr(pl_module, "num_microbatches", 1))
        step = describe_step(trainer.world_size, batch_size, trainer.accumulate_grad_batches, microbatches)
        rates = ", ".join(describe_rate(optimizer, pl_module) for optimizer in trainer.optimizers)
        rank_zero_info(f"{step}\nlearning rate: {rates}")


def images_per_batch(loader: Any) -> int | None:
    """The images of a training batch on one device: the batch size, or all the images of a smaller split.

    None where the loader does not say.
    """
    batch_size, sampler = getattr(loader, "batch_size", None), getattr(loader, "sampler", None)
    if batch_size is None or sampler is None:
        return batch_size
    return min(int(batch_size), len(sampler))


def describe_step(devices: int, batch_size: int, batches: int = 1, microbatches: int = 1) -> str:
    """`2 devices x 64 images x 4 accumulated batches = 512 images per step (each batch in 2 parts)`."""
    factors = [f"{devices} device{'s' if devices > 1 else ''}", f"{batch_size} images"]
    if batches > 1:
        factors.append(f"{batches} accumulated batches")
    parts = f" (each batch in {microbatches} parts)" if microbatches > 1 else ""
    return f"{' x '.join(factors)} = {devices * batch_size * batches} images per step{parts}"


def describe_networks(model: nn.Module) -> str:
    """`generator 699,200, discriminator 723,457`: the parameters that are trained, network by network."""
    sizes = {name: sum(p.numel() for p in child.parameters() if p.requires_grad) for name, child in model.named_children()}
    return ", ".join(f"{name} {size:,}" for name, size in sizes.items() if size)


def describe_rate(optimizer: Optimizer, model: nn.Module) -> str:
    """`generator 0.0002 (Adam)`."""
    groups = optimizer.param_groups
    ours = {id(parameter) for group in groups for parameter in group["params"]}
    name = next(name for name, child in model.named_children() if any(id(p) in ours for p in child.parameters()))
    rate = groups[0].get("initial_lr", groups[0]["lr"])
    return f"{name} {float(rate):g} ({type(optimizer).__name__})"
