"""The x-axis of everything that is logged: images_seen."""

from collections.abc import Callable, Mapping
from typing import Any

import lightning as L
from lightning.pytorch.loggers import Logger


class ImagesSeenAxis(L.Callback):
    """Gives every logger the model's `images_seen` as the step, for values of the model, of Lightning and of callbacks.

    Lightning would give the number of batches, which means another number of images for another batch size or number of
    devices. A value logged in a training step has the images seen after that step.

    It replaces each logger's `log_metrics`: Lightning has no hook for the step that it gives to a logger, and callbacks of the
    user (LearningRateMonitor, say) call the loggers themselves. A logger that wraps another would fail `isinstance(logger,
    WandbLogger)`.
    """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        for logger in trainer.loggers:
            if not isinstance(logger.log_metrics, AtImagesSeen):
                logger.log_metrics = AtImagesSeen(logger, pl_module)  # type: ignore[method-assign]


class AtImagesSeen:
    """A logger's `log_metrics`, which takes the step from the model."""

    def __init__(self, logger: Logger, model: L.LightningModule) -> None:
        self.log: Callable[..., Any] = logger.log_metrics
        self.model = model

    def __call__(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.log(metrics, step=getattr(self.model, "images_seen", step))
