"""A run directory for a fit that is started from Python."""

import sys
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from genai import runs
from genai.data.module import DataModule
from genai.errors import UserError
from genai.files import make_folder
from genai.models.base import IMAGE_SIZES, TEXT_SIZES, Model
from genai.models.hyperparameters import to_plain
from genai.training.callbacks.axis import ImagesSeenAxis
from genai.training.callbacks.checkpoints import AtomicCheckpointIO
from genai.training.callbacks.run_directory import RunDirectory
from genai.training.loggers import MetricsCSV
from genai.training.record import add_resume, command_line, write_config, write_record

TRAINER_OPTIONS = ("max_epochs", "max_steps", "precision", "accumulate_grad_batches", "gradient_clip_val", "log_every_n_steps")


class RecordRun(RunDirectory):
    """Makes a run of a fit in Python: `genai.load(path)` and every verb of the command line read it.

        trainer = L.Trainer(max_epochs=20, callbacks=[RecordRun("runs/mine/first")])
        trainer.fit(GAN(...), datamodule=Digits())

    It writes config.yaml and run.json when the training begins, metrics.csv, and checkpoints/last.ckpt after each epoch. All
    checkpoints of the trainer are written whole and have a digest, unless it has a CheckpointIO plugin of its own.
    `trainer.fit(..., ckpt_path="runs/mine/first/checkpoints/last.ckpt")` continues the run. A fast_dev_run writes nothing.

    Args:
        path: the run directory to make.
        seed: what run.json says about the seed of the training; it seeds nothing.

    Raises:
        UserError: in `fit`, before anything is written: there is a run at `path` already, the model or the data module is not
            one of this suite, or an argument of theirs cannot be written into config.yaml (a lambda, say). Also where the
            checkpoint to continue from is damaged.
    """

    def __init__(self, path: str | Path, seed: int = 0) -> None:
        super().__init__(path)
        self.seed = seed
        self.config: dict[str, Any] = {}
        self.was_restored = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage != "fit" or is_dev_run(trainer):
            return
        self.config = describe(trainer, pl_module, self.seed)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        if trainer.is_global_zero:
            trainer.loggers = [*trainer.loggers, MetricsCSV(self.path, f"{getattr(pl_module, 'unit', 'images')}_seen")]
        ImagesSeenAxis().setup(trainer, pl_module, stage)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self.was_restored = True

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self.config or not trainer.is_global_zero:
            return
        if runs.is_run(self.path) and not self.was_restored:
            raise UserError(f"{self.path} is a run already: choose another path, or continue it with ckpt_path=...")
        make_folder(self.path)
        data: DataModule = trainer.datamodule  # type: ignore[attr-defined]
        command = command_line(["python", *sys.argv])
        if self.was_restored and (self.path / "run.json").is_file():
            add_resume(self.path, data, command)
        else:
            write_record(self.path, data, pl_module, self.seed, command)
        write_config(self.path, yaml.safe_dump(self.config, sort_keys=False))
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCSV):
                logger.forget_after(int(pl_module.images_seen))  # type: ignore[arg-type]

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.config:
            trainer.save_checkpoint(self.path / "checkpoints/last.ckpt", weights_only=False)


def is_dev_run(trainer: L.Trainer) -> bool:
    """Whether the trainer only tries a few batches."""
    return bool(getattr(trainer, "fast_dev_run", False))


def describe(trainer: L.Trainer, model: L.LightningModule, seed: int) -> dict[str, Any]:
    """The config of a fit, from its trainer, model and data module.

    Raises:
        UserError: one of them cannot be written down.
    """
    data = getattr(trainer, "datamodule", None)
    if not isinstance(model, Model) or not isinstance(data, DataModule):
        raise UserError("RecordRun needs a model and a data module of genai: trainer.fit(model, datamodule=...)")
    if model.hparams_error:
        raise UserError(f"RecordRun cannot write config.yaml: {model.hparams_error}")
    linked = (*IMAGE_SIZES, *TEXT_SIZES, "_instantiator", "_class_path")
    init_args = {name: to_plain(value, name) for name, value in model.hparams.items() if name not in linked}
    return {
        "seed_everything": seed,
        "model": {"class_path": f"{type(model).__module__}.{type(model).__qualname__}", "init_args": init_args},
        "data": to_plain(data, "data"),
        "trainer": {name: to_plain(getattr(trainer, name), name) for name in TRAINER_OPTIONS},
    }
