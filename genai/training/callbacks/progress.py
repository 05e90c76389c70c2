"""Progress of a fit: a bar in a terminal, a few lines in a file or a pipe."""

import sys
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar, TQDMProgressBar

NUM_LINES = 5


class ProgressLines(ProgressBar):
    """Prints a line after each fifth of the epochs, and after the first and the last."""

    def __init__(self) -> None:
        super().__init__()
        self.began = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.began = time.monotonic()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        epoch, epochs = trainer.current_epoch + 1, trainer.max_epochs or -1
        interval = max(1, epochs // NUM_LINES)
        if not trainer.is_global_zero or not (epoch in (1, epochs) or epoch % interval == 0 or trainer.should_stop):
            return
        metrics = self.get_metrics(trainer, pl_module)
        values = [f"{name} {value:.3g}" for name, value in metrics.items() if isinstance(value, int | float)]
        of = f"/{epochs}" if epochs > 0 else ""
        images = f"{int(getattr(pl_module, 'images_seen', 0)):,} {getattr(pl_module, 'unit', 'images')}"
        print(", ".join([f"epoch {epoch}{of}: {images}", f"{time.monotonic() - self.began:.0f} s", *values]), flush=True)

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:  # type: ignore[override]
        """What a model logs with `prog_bar=True`, under short names."""
        return short_names(super().get_metrics(trainer, pl_module))

    def disable(self) -> None:
        """Nothing to do: only the first process prints."""

    def enable(self) -> None:
        """Nothing to do: only the first process prints."""


class ProgressInTerminal(TQDMProgressBar):
    """Lightning's bar, with short names of the metrics so that it fits into 80 columns."""

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:  # type: ignore[override]
        """What a model logs with `prog_bar=True`, under short names."""
        return short_names(super().get_metrics(trainer, pl_module))


def short_names(metrics: dict[str, Any]) -> dict[str, Any]:
    """`train/discriminator_loss` -> `d_loss`; without the logger's version."""
    for full, short in (("train/", ""), ("discriminator_", "d_"), ("generator_", "g_")):
        metrics = {name.replace(full, short): value for name, value in metrics.items()}
    return {name: value for name, value in metrics.items() if name != "v_num"}


def progress_bar() -> ProgressBar:
    """A bar in a terminal; lines elsewhere."""
    return ProgressInTerminal() if sys.stdout.isatty() else ProgressLines()
