"""Checkpoints that are never half-written, and one more when a run is told to stop."""

import os
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.fabric.utilities.types import _PATH
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it, so that a reader finds the old one or the new one, whole.

    Lightning's own goes through a temporary file that may lie on another disk, and is then copied.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None) -> None:
        final = Path(path)
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = final.with_name(final.name + ".tmp")
        try:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(final)
        finally:
            temporary.unlink(missing_ok=True)


class SaveOnStop(L.Callback):
    """Writes last.ckpt when the run is stopped by SIGTERM, so that `--resume` goes on from that very batch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, SIGTERMException) and trainer.state.fn == "fit" and not trainer.sanity_checking:
            trainer.save_checkpoint(self.folder / "last.ckpt")


def checkpoint_callbacks(folder: Path, monitor: str, every_n_epochs: int, every_n_steps: int | None) -> list[L.Callback]:
    """last.ckpt after each epoch (and every n steps), best.ckpt by `monitor` (lower is better), and SaveOnStop."""
    shared: dict[str, Any] = {"dirpath": folder, "enable_version_counter": False}
    callbacks: list[L.Callback] = [
        ModelCheckpoint(**shared, filename="last", save_on_train_epoch_end=True),
        SaveOnStop(folder),
    ]
    if every_n_epochs:
        best: dict[str, Any] = {"monitor": monitor, "mode": "min", "every_n_epochs": every_n_epochs}
        callbacks.append(ModelCheckpoint(**shared, filename="best", save_on_train_epoch_end=False, **best))
    if every_n_steps:
        callbacks.insert(0, ModelCheckpoint(**shared, filename="last", every_n_train_steps=every_n_steps))
    return callbacks
