"""The base of all data modules: batches of a size and a training order that resumes exactly."""

import os
import sys
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

from genai.data.arrays import Split
from genai.data.order import TrainingOrder
from genai.errors import UserError

LabelKind = Literal["none", "class", "attributes", "text"]


class DataModule(L.LightningDataModule):
    """Data of one kind, images or text, in three splits.

    Attributes:
        name: of the dataset; cache entries are looked up by it.
        num_classes: classes, attributes, or words of the vocabulary of captions; 0 for data without labels.
        label_kind: `none`, `class` (N,), `attributes` (N, K) or `text` (N, L).
        class_names: names of the classes or attributes.

    Args:
        root: folder of the data; default: $GENAI_DATA, then data/.
        batch_size: images, or windows of a text, per batch and device.
        num_workers: loader processes; batches are memory copies, so 0 is fastest.
        seed: of the order and the augmentation; default: the seed of `seed_everything`, 0 if that was not called.

    Raises:
        UserError: batch_size or num_workers is out of range.
    """

    name: str
    num_classes: int = 0
    label_kind: LabelKind = "none"
    class_names: tuple[str, ...] = ()

    def __init__(self, root: str | None = None, batch_size: int = 128, num_workers: int = 0, seed: int | None = None) -> None:
        super().__init__()
        for option, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0), ("seed", seed or 0, 0)):
            if value < least:
                raise UserError(f"{option} {value} is out of range: use {least} or more")
        self.root = root
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.order = TrainingOrder()

    def __str__(self) -> str:
        """Class and name; Lightning's own text reads all splits, also where jsonargparse only puts it into a log message."""
        return f"{type(self).__name__} ({self.name})"

    @abstractmethod
    def fingerprint(self, split: Split) -> str:
        """Short hash of the dataset's name, content and split."""

    @abstractmethod
    def describe(self) -> str:
        """The sizes of the splits in a line."""

    # -- resuming -------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The position in the training order, and the fingerprint of the training split."""
        position = self.order.state_dict()
        return {**position, "fingerprint": self.fingerprint("train")} if position else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue a fit at this state; when a checkpoint is validated or tested, the position is ignored.

        A fit that continues with other training data warns, and the command line refuses it, see `training.checks`. For a
        validation or a test see `report_change`.
        """
        if self.trainer is not None and self.trainer.state.fn != TrainerFn.FITTING:
            if self.trainer.is_global_zero:
                self.report_change(state_dict)
            return
        if self.has_changed(state_dict):
            rank_zero_warn(
                f"the training data of {self.name} are not those of the checkpoint: the run does not continue exactly"
            )
        self.order.load_state_dict({key: value for key, value in state_dict.items() if key != "fingerprint"})

    def report_change(self, state: Mapping[str, Any]) -> None:
        """Say on stderr if the training split is another than that of a saved state: test images may be among its images."""
        if self.has_changed(state):
            message = "differ from those of the training, so a split may hold what the model was trained on"
            print(f"genai: the data of {self.name} {message}", file=sys.stderr)

    def has_changed(self, state: Mapping[str, Any]) -> bool:
        """Whether the training split is another than that of a saved state; False where it does not say."""
        return state.get("fingerprint", self.fingerprint("train")) != self.fingerprint("train")


def ranks(trainer: L.Trainer | None) -> tuple[int, int]:
    """The number of processes and the rank of this one."""
    return (trainer.world_size, trainer.global_rank) if trainer else (1, 0)


def data_roots(root: str | None) -> list[Path]:
    """Folders to look for data in, in order: `root` alone if it is given, else $GENAI_DATA and data/."""
    if root is not None:
        return [Path(root)]
    return [Path(folder) for folder in (os.environ.get("GENAI_DATA"), "data") if folder]
