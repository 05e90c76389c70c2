"""Images or tokens per second of training."""

import time
from typing import Any

import lightning as L

from genai.models.optimization import log_interval


class Throughput(L.Callback):
    """Logs `images_per_second` (`tokens_per_second` of a text model) over all devices each `log_every_n_steps` batches.

    The time of validation does not count.
    """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.restart(pl_module)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.restart(pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.restart(pl_module)

    def restart(self, pl_module: L.LightningModule) -> None:
        """Count from here."""
        self.start = time.perf_counter()
        self.images = int(getattr(pl_module, "images_seen", 0))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        images_seen = int(getattr(pl_module, "images_seen", 0))
        interval = log_interval(trainer)
        if not interval or (batch_idx + 1) % interval or images_seen == self.images:
            return
        speed = (images_seen - self.images) / (time.perf_counter() - self.start)
        for logger in trainer.loggers:
            logger.log_metrics({f"{getattr(pl_module, 'unit', 'images')}_per_second": speed}, step=images_seen)
        self.restart(pl_module)
