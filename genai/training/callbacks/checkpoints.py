"""Checkpoints that are never half-written: after each epoch, every few steps, and when a run is told to stop."""

import contextlib
import os
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.fabric.utilities.types import _PATH
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint

from genai.errors import UserError
from genai.training.callbacks.preemption import Stopped, validation_may_follow


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it, so that a reader finds the old one or the new one, whole.

    The last.ckpt before stays as previous.ckpt. Lightning's own goes through a temporary file that may lie on another disk,
    and is then copied.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None) -> None:
        final = Path(path)
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = final.with_name(final.name + ".tmp")
        try:
            write(checkpoint, temporary)
            if final.name == "last.ckpt":
                keep_as_previous(final)
            temporary.replace(final)
        except (OSError, RuntimeError) as error:  # torch's writer turns some of the former into the latter
            kept = f"{final} is as it was" if final.is_file() else "there is none before it"
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise UserError(f"could not write {temporary} ({reason}); {kept}: make room, then `genai fit --resume`") from None
        finally:
            temporary.unlink(missing_ok=True)


def write(checkpoint: dict[str, Any], path: Path) -> None:
    """Write and have it reach the disk."""
    with path.open("wb") as file:
        torch.save(checkpoint, file)
        file.flush()
        os.fsync(file.fileno())


def keep_as_previous(final: Path) -> None:
    """Give last.ckpt a second name; on a file system without hard links only the last one stays."""
    link = final.with_name("previous.ckpt.tmp")
    link.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        os.link(final, link)
        link.replace(final.with_name("previous.ckpt"))


class LastCheckpoint(Checkpoint):
    """Writes last.ckpt after each epoch, every n optimizer steps, and when the run is told to stop.

    What falls due where validation may follow is written after it: Lightning would leave out the validation of a run that goes
    on from between the two.

    Args:
        dirpath: folder of the checkpoints.
        every_n_steps: n; None for the ends of epochs alone.
    """

    def __init__(self, dirpath: Path, every_n_steps: int | None) -> None:
        self.dirpath = dirpath.resolve()
        self.every_n_steps = every_n_steps
        self.saved_at = 0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.dirpath = trainer.strategy.broadcast(self.dirpath)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.saved_at = trainer.global_step

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.is_due(trainer) and not validation_may_follow(trainer, batch_idx):
            self.save(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking and trainer.state.fn == "fit" and self.is_due(trainer):
            self.save(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.save(trainer)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, Stopped):
            if trainer.validating:
                validate_again(trainer)
            self.save(trainer)

    def is_due(self, trainer: L.Trainer) -> bool:
        """Whether n steps have passed."""
        return self.every_n_steps is not None and trainer.global_step - self.saved_at >= self.every_n_steps

    def save(self, trainer: L.Trainer) -> None:
        """Write last.ckpt, and before it what the loggers hold back."""
        self.saved_at = trainer.global_step
        for logger in trainer.loggers:
            logger.save()
        trainer.save_checkpoint(self.dirpath / "last.ckpt")


def validate_again(trainer: L.Trainer) -> None:
    """Have the checkpoint say that the validation has just begun: a run that goes on from it does the whole of it."""
    progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
    progress.reset()
    progress.increment_ready()
    progress.increment_started()


def checkpoint_callbacks(folder: Path, monitor: str, every_n_epochs: int, every_n_steps: int | None) -> list[L.Callback]:
    """best.ckpt by `monitor` (lower is better), and last.ckpt, which remembers what was best."""
    last = LastCheckpoint(folder, every_n_steps)
    if not every_n_epochs:
        return [last]
    options: dict[str, Any] = {"monitor": monitor, "mode": "min", "every_n_epochs": every_n_epochs}
    options |= {"save_on_train_epoch_end": False, "enable_version_counter": False}
    return [ModelCheckpoint(folder, filename="best", **options), last]
