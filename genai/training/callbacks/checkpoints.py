"""Checkpoints that are written whole or not at all: after each epoch, every few steps, and when a signal stops the run."""

import contextlib
import os
import shlex
from pathlib import Path
from typing import IO, Any

import lightning as L
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.fabric.utilities.types import _PATH
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint

from genai.errors import UserError, WriteError
from genai.files import open_atomically, temporary_beside
from genai.runs.loading import read_checkpoint, write_digest
from genai.training.callbacks.epochs import is_kth_or_last
from genai.training.callbacks.preemption import Stopped, is_accumulating, log_batch, validation_may_follow
from genai.training.loggers import MetricsCSV
from genai.training.restoring import check_like


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it, so that a reader finds the old one or the new one, whole.

    The last.ckpt before it is kept as previous.ckpt. Lightning's own writer copies a temporary file that may lie on another
    disk.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None) -> None:
        final = Path(path)
        try:
            with open_atomically(final) as file:
                write(checkpoint, file)
                if final.name == "last.ckpt":
                    keep_as_previous(final)
        except (WriteError, RuntimeError) as error:  # torch's writer turns some of what the system says into the latter
            kept = f"{final} is as it was" if final.is_file() else "there is no earlier one"
            reason = error.reason if isinstance(error, WriteError) else reason_of(error)
            run = shlex.quote(str(final.parent.parent))
            raise UserError(f"could not write {final} ({reason}); {kept}: make room, then `genai fit --resume {run}`") from None

    def load_checkpoint(self, path: _PATH, map_location: Any | None = None, weights_only: bool | None = None) -> dict[str, Any]:
        """A checkpoint on the CPU, always with `weights_only`; UserError if it is damaged."""
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: _PATH) -> None:
        """Delete a checkpoint's file; a folder is never deleted."""
        file = Path(path)
        if file.is_symlink() or file.is_file():
            file.unlink()


def write(checkpoint: dict[str, Any], file: IO[bytes]) -> None:
    """Write a checkpoint and its digest to the disk."""
    torch.save(checkpoint, file)
    write_digest(file)
    file.flush()
    os.fsync(file.fileno())


def reason_of(error: BaseException) -> str:
    """What the system said when torch's writer failed: torch raises errors of its own while it handles that one."""
    first: BaseException | None = error
    while first is not None and not isinstance(first, OSError):
        first = first.__context__
    return (first.strerror if isinstance(first, OSError) else None) or str(error).splitlines()[0]


def keep_as_previous(final: Path) -> None:
    """Give last.ckpt a second name; on a file system without hard links only the last one stays."""
    previous = final.with_name("previous.ckpt")
    link = temporary_beside(previous)
    with contextlib.suppress(OSError):
        os.link(final, link, follow_symlinks=False)
        link.replace(previous)
    with contextlib.suppress(OSError):
        link.unlink(missing_ok=True)


class LastCheckpoint(Checkpoint):
    """Writes last.ckpt after each epoch, every n training batches, and when a signal stops the run.

    A checkpoint that is due before a validation is written after it: Lightning would skip the validation of a run that is
    resumed between the two. One that is due while gradients are accumulated is written after the optimiser's step: a
    checkpoint has no gradients.

    Args:
        dirpath: folder of the checkpoints.
        every_n_steps: n; None for the ends of epochs alone.
    """

    def __init__(self, dirpath: Path, every_n_steps: int | None) -> None:
        self.dirpath = dirpath.resolve()
        self.every_n_steps = every_n_steps
        self.saved_at = 0  # in training batches

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.dirpath = trainer.strategy.broadcast(self.dirpath)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.saved_at = num_batches(trainer)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.is_due(trainer) and not is_accumulating(trainer) and not validation_may_follow(trainer, batch_idx):
            log_batch(trainer)  # a resumed run does not repeat this batch, so its row has to be written before the checkpoint
            self.save(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking and trainer.state.fn == "fit" and self.is_due(trainer) and not is_accumulating(trainer):
            self.save(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.save(trainer)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, Stopped) and num_batches(trainer) != self.saved_at:
            if trainer.validating:
                validate_again(trainer)
            self.save(trainer)

    def is_due(self, trainer: L.Trainer) -> bool:
        """Whether n batches have passed."""
        return self.every_n_steps is not None and num_batches(trainer) - self.saved_at >= self.every_n_steps

    def save(self, trainer: L.Trainer) -> None:
        """Write last.ckpt, and before it the rows of metrics.csv that are not written yet."""
        self.saved_at = num_batches(trainer)
        for logger in trainer.loggers:
            logger.write() if isinstance(logger, MetricsCSV) else logger.save()
        trainer.save_checkpoint(self.dirpath / "last.ckpt", weights_only=False)


def num_batches(trainer: L.Trainer) -> int:
    """Training batches since the fit began, over all its epochs."""
    return trainer.fit_loop.epoch_loop.total_batch_idx + 1


class BestCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint under another name, so that the user can add a ModelCheckpoint with the same options.

    The last epoch counts too, since it is scored, whether or not it is a k-th one.
    """

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        every = self._every_n_epochs
        self._every_n_epochs = 1 if is_kth_or_last(trainer, every) else every
        super().on_validation_end(trainer, pl_module)
        self._every_n_epochs = every


class CheckRestored(L.Callback):
    """Checks what a checkpoint says of the loops, and keeps each ModelCheckpoint in its own folder, when a run is resumed.

    A checkpoint names the files that Lightning would delete when a better one is written. Here they are looked for by their
    names in the folder that the callback has now, whatever the checkpoint says; so a run that was moved keeps its best
    checkpoint and its score, and a checkpoint from elsewhere deletes nothing outside of the run.
    """

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        loops, states = checkpoint.get("loops"), checkpoint.get("callbacks")
        if loops is not None and trainer.state.fn == "fit":
            saved, now = loops["fit_loop"], trainer.fit_loop.state_dict()
            known = {name: part for name, part in now.items() if name in saved}  # other versions of Lightning have other parts
            check_like(saved, known, Path(str(trainer.ckpt_path)), "fit_loop")
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and isinstance(states, dict) and callback.state_key in states:
                states[callback.state_key] = rebased(states[callback.state_key], str(callback.dirpath))


def rebased(state: Any, folder: str) -> dict[str, Any]:
    """The state of a ModelCheckpoint with each path in `folder`; what is not there is forgotten, with its score."""

    def inside(path: Any) -> str:
        name = Path(path).name if isinstance(path, str) else ""
        there = Path(folder) / name
        return str(there) if there.suffix == ".ckpt" and there.is_file() and not there.is_symlink() else ""

    old = state if isinstance(state, dict) else {}
    new: dict[str, Any] = {"monitor": old.get("monitor"), "dirpath": folder, "best_k_models": {}, "kth_best_model_path": ""}
    new |= {name: inside(old.get(name)) for name in ("best_model_path", "last_model_path")}
    score = old.get("best_model_score")
    new["best_model_score"] = score if new["best_model_path"] and is_score(score) else None
    models = old.get("best_k_models")
    scores = {inside(path): score for path, score in models.items() if is_score(score)} if isinstance(models, dict) else {}
    scores.pop("", None)
    worst = inside(old.get("kth_best_model_path"))
    if worst in scores and is_score(old.get("kth_value")):
        new |= {"best_k_models": scores, "kth_best_model_path": worst, "kth_value": old["kth_value"]}
    return new


def is_score(value: Any) -> bool:
    """Whether a value of a checkpoint is one number."""
    return isinstance(value, int | float) or (isinstance(value, torch.Tensor) and value.numel() == 1)


def validate_again(trainer: L.Trainer) -> None:
    """Have the checkpoint say that the validation has just begun: a run resumed from it does all of the validation."""
    progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
    progress.reset()
    progress.increment_ready()
    progress.increment_started()


def checkpoint_callbacks(
    folder: Path, monitor: str, every_n_epochs: int, every_n_steps: int | None, is_score: bool
) -> list[L.Callback]:
    """best.ckpt by `monitor` (lower is better), and last.ckpt, which remembers the best value.

    Args:
        folder: of the checkpoints.
        monitor: what the model's validation logs, or a score of its samples.
        every_n_epochs: of the scored epochs; 0 if no epoch is scored.
        every_n_steps: of last.ckpt; None for once an epoch.
        is_score: `monitor` is a score of samples, so there is no best.ckpt without scored epochs.
    """
    last = LastCheckpoint(folder, every_n_steps)
    if is_score and not every_n_epochs:
        return [last]
    options: dict[str, Any] = {"monitor": monitor, "mode": "min", "every_n_epochs": every_n_epochs or 1}
    options |= {"save_on_train_epoch_end": False, "enable_version_counter": False}
    return [BestCheckpoint(folder, filename="best", **options), last]
