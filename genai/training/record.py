"""The record of a run: run.json and config.yaml; those of a resumed run are rewritten after its checkpoint is restored."""

import secrets
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
import torchvision
from lightning.pytorch.cli import SaveConfigCallback

from genai import __version__, runs
from genai.data.base import ImageDataModule
from genai.data.module import DataModule
from genai.data.text import TextDataModule
from genai.files import write_atomically
from genai.models.seeds import SEED_SCHEME
from genai.runs.redaction import Redaction
from genai.runs.signature import is_own, sign
from genai.training import cluster
from genai.training.loggers import MetricsCSV

LABEL_EXAMPLES = 64


def write_record(run_dir: Path, data: DataModule, model: L.LightningModule, seed: int, command: str) -> dict[str, Any]:
    """Write run.json, unless there is one already. Returns its content.

    Args:
        run_dir: an existing folder.
        data: gives sizes, classes, labels and the tokenizer.
        model: gives its class's name.
        seed: of `--seed_everything`.
        command: that makes the run; see `command_line`.
    """
    path = run_dir / "run.json"
    if path.is_file():
        return runs.Run(run_dir).record()
    record = {
        "format": runs.FORMAT,
        "seed_scheme": SEED_SCHEME,
        **size_record(data, model),
        "class_names": list(data.class_names),
        **label_record(data),
        "data": data.name,
        "model": type(model).__name__,
        "seed": seed,
        "command": command,
        "tracker_id": secrets.token_hex(4),
        "job": cluster.job(),
        "started": time.strftime(runs.TIME),
        "versions": {
            "genai": __version__,
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "lightning": L.__version__,
            "numpy": np.__version__,
        },
    }
    runs.write_json(path, record)
    return record


def add_resume(run_dir: Path, data: DataModule, command: str) -> None:
    """Add the command to run.json's `resumed_with`, and the time."""
    record = label_record(data) | runs.Run(run_dir).record()
    record["resumed"] = time.strftime(runs.TIME)
    record["resumed_with"] = [*record.get("resumed_with", []), command]
    runs.write_json(run_dir / "run.json", record)


def command_line(words: Sequence[str]) -> str:
    """The words of a command as one line for the shell, without secrets."""
    return shlex.join(Redaction(paths=False).words(words))


def size_record(data: DataModule, model: L.LightningModule) -> dict[str, Any]:
    """The sizes that the model takes from the data; of text also the tokenizer, so that texts need no data."""
    if isinstance(data, TextDataModule):
        sizes = {"vocab_size": data.vocab_size, "context_length": data.context_length}
        if num_classes := getattr(model, "num_classes", 0):
            sizes["num_classes"] = num_classes
        return {**sizes, "tokenizer": data.tokenizer.spec()}
    assert isinstance(data, ImageDataModule)
    return {"image_shape": list(data.image_shape), "num_classes": data.num_classes}


def label_record(data: DataModule) -> dict[str, Any]:
    """The labels in run.json, so that attributes or captions like those of the data can be sampled without the data.

    label_kind: `none`, `class`, `attributes` or `text`; and for the last two
    label_examples: the vectors (0 or 1 each), or words, of 64 training images, spread evenly over the split.
    label_exclusive: pairs of attributes that no training image has together, though ten would if they were independent.
    """
    if not isinstance(data, ImageDataModule) or data.label_kind not in ("attributes", "text"):
        return {"label_kind": data.label_kind}
    labels = np.asarray(data.split("train").labels)  # (N, K) or (N, L)
    rows = np.linspace(0, len(labels) - 1, min(LABEL_EXAMPLES, len(labels))).astype(int)
    examples = {"label_kind": data.label_kind, "label_examples": labels[rows].astype(int).tolist()}
    if data.label_kind == "text":
        return examples
    counts = labels.sum(axis=0)
    expected = np.outer(counts, counts) / len(labels)
    never = np.triu((labels.T @ labels == 0) & (expected >= 10), k=1)
    return {**examples, "label_exclusive": [[data.class_names[i], data.class_names[j]] for i, j in np.argwhere(never)]}


def write_config(run_dir: Path, text: str) -> None:
    """Write config.yaml; one that differs is kept as config.N.yaml.

    It is signed where it is new, or the one before was this user's own: a run from elsewhere stays one when it is continued.
    """
    path = run_dir / "config.yaml"
    is_ours = not path.is_file() or is_own(run_dir)
    if path.is_file() and path.read_text() != text:
        earlier = len(list(run_dir.glob("config.*.yaml"))) + 1
        write_atomically(run_dir / f"config.{earlier}.yaml", path.read_bytes())
    write_atomically(path, text)
    if is_ours:
        sign(run_dir, text.encode())


class SaveConfig(SaveConfigCallback):
    """Writes config.yaml into the run directory; a resumed run with other options keeps the earlier file beside it.

    The files of a resumed run are changed when its checkpoint has been restored: a resume that is refused changes nothing.

    Args:
        command: that runs this fit.
        kwargs: of Lightning's callback.
    """

    def __init__(self, *args: Any, command: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.command = command

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if trainer.is_global_zero and not (self.run_dir / "config.yaml").is_file():
            self.save_config(trainer, pl_module, stage)
            self.already_saved = True

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        if self.already_saved:
            self.save_config(trainer, pl_module, "fit")  # with what a BatchSizeFinder found
            return
        add_resume(self.run_dir, trainer.datamodule, self.command)  # type: ignore[attr-defined]
        self.save_config(trainer, pl_module, "fit")
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCSV):
                logger.forget_after(int(pl_module.images_seen))  # type: ignore[arg-type]

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        config = self.config.clone()
        config.run_dir = config.ckpt_path = None
        if config.get("data.init_args.batch_size"):
            config["data.init_args.batch_size"] = trainer.datamodule.batch_size  # type: ignore[attr-defined]
        write_config(self.run_dir, self.parser.dump(config, skip_unset=False, skip_validation=True))

    @property
    def run_dir(self) -> Path:
        """The run directory of this fit."""
        return Path(str(self.config.run_dir))
