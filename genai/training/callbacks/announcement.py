"""What a step is, said before the first one."""

import lightning as L
from lightning.pytorch.utilities import rank_zero_info
from torch import nn
from torch.optim import Optimizer

from genai.models.precision import is_slow


class Announcement(L.Callback):
    """Says how many images make a step on all devices together, the learning rate of each optimiser, and a slow precision."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if is_slow(trainer.precision, pl_module.device):
            rank_zero_info(
                f"precision {trainer.precision} is slow on this processor, without bfloat16: --trainer.precision 32 is faster"
            )
        batch_size = getattr(getattr(trainer, "datamodule", None), "batch_size", None)
        if batch_size is None:
            return
        parts = int(getattr(pl_module, "accumulate", 1))
        rates = ", ".join(describe_rate(optimizer, pl_module) for optimizer in trainer.optimizers)
        rank_zero_info(f"{describe_step(trainer.world_size, batch_size, parts)}; learning rate: {rates}")


def describe_step(devices: int, batch_size: int, parts: int) -> str:
    """`2 devices x 32 images x 2 parts accumulated = 128 images per step`; `batch_size` is that of all parts."""
    factors = [f"{devices} device{'s' if devices > 1 else ''}", f"{batch_size // parts} images"]
    if parts > 1:
        factors.append(f"{parts} parts accumulated")
    return f"{' x '.join(factors)} = {devices * batch_size} images per step"


def describe_rate(optimizer: Optimizer, model: nn.Module) -> str:
    """`generator 0.0002 (Adam)`."""
    groups = optimizer.param_groups
    ours = {id(parameter) for group in groups for parameter in group["params"]}
    name = next(name for name, child in model.named_children() if any(id(p) in ours for p in child.parameters()))
    rate = groups[0].get("initial_lr", groups[0]["lr"])
    return f"{name} {float(rate):g} ({type(optimizer).__name__})"
