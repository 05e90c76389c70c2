"""Options of an optimiser that were changed when a run was resumed."""

from typing import Any

import lightning as L
from torch.optim import Optimizer

from genai.models.optimization import ImagesSeenLR

OPTIMIZER_CLASSES = "optimizer_classes"
"""The key of a checkpoint for the names of its optimisers' classes, which their states do not tell."""


class OptimizerOptions(L.Callback):
    """Applies the options of an optimiser that the config has changed since the checkpoint was written.

    torch restores an optimiser with the options it was saved with. Options that the config has not changed, and those that a
    schedule has changed, are left alone.
    """

    def __init__(self) -> None:
        self.configured: list[list[dict[str, Any]]] = []  # of each optimiser, of each of its groups
        self.saved: list[list[dict[str, Any]]] = []

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the configured options, before those of the checkpoint replace them."""
        self.configured = [options_of(optimizer) for optimizer in trainer.optimizers]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for optimizer, then, now in zip(trainer.optimizers, self.saved, self.configured, strict=False):
            for group, old, new in zip(optimizer.param_groups, then, now, strict=False):
                group.update({name: value for name, value in new.items() if old.get(name) != value})
        for config in trainer.lr_scheduler_configs:  # a configured learning rate is that of the first image
            if isinstance(config.scheduler, ImagesSeenLR):
                config.scheduler.load_state_dict({})

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[OPTIMIZER_CLASSES] = [type(optimizer).__name__ for optimizer in trainer.optimizers]

    def state_dict(self) -> dict[str, Any]:
        return {"configured": self.configured}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        saved = state_dict.get("configured", [])
        self.saved = saved if isinstance(saved, list) and all(isinstance(groups, list) for groups in saved) else []


def options_of(optimizer: Optimizer) -> list[dict[str, Any]]:
    """The options of each group of parameters."""
    return [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
