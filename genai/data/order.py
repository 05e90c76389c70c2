"""The order of the images: the shuffled order of training, which resumes exactly, and the sequential one of evaluation."""

import os
import warnings
from collections.abc import Callable, Iterator, Sized
from itertools import count, islice
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import Dataset
from torch.utils.data.distributed import DistributedSampler

from genai.data.arrays import class_balanced
from genai.errors import UserError


class Position(NamedTuple):
    """A training batch: its epoch and its index in the epoch, both from 0."""

    epoch: int
    batch: int


class TrainingOrder:
    """The position of training in the shuffled data; checkpoints save it, and a resumed fit continues with the next batch.

    The order of an epoch is a function of (seed, epoch, number of ranks), the augmentation of a batch one of (seed, epoch,
    batch, rank), so the position is all that has to be saved. Without a Trainer (your own loop over the loader), each
    pass over the loader is an epoch.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self.batches = 0  # of this epoch that training has received
        self.settings: dict[str, int] = {}  # what the order depends on besides the epoch; empty until training starts
        self.trainer: L.Trainer | None = None
        self.loaded: dict[str, int] = {}  # a state from a checkpoint, for the next `start`

    def start(self, trainer: L.Trainer | None, seed: int | None, batch_size: int) -> None:
        """Begin with a new training loader: at the loaded state, which is used once, or at the trainer's epoch.

        Args:
            trainer: the Trainer that reads the loader, if any.
            seed: of the order and the augmentation; None is the seed of `seed_everything`, or 0 if that was not called.
            batch_size: images per batch and rank.
        """
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed
        self.trainer = trainer
        self.settings = {"seed": seed, "batch_size": batch_size, "world_size": trainer.world_size if trainer else 1}
        state, self.loaded = self.loaded, {}
        if not state:
            self.epoch, self.batches = (trainer.current_epoch if trainer else 0), 0
            return
        self.epoch, self.batches = state["epoch"], state["batches"]
        changed = [f"{name} {state[name]} -> {value}" for name, value in self.settings.items() if state[name] != value]
        if changed and self.batches:
            rank_zero_warn(
                f"resuming within an epoch with another order ({', '.join(changed)}): images may be repeated or skipped"
            )

    def next_position(self) -> Position:
        """The next training batch."""
        if self.trainer is not None and self.batches >= self.trainer.num_training_batches:
            return Position(self.epoch + 1, 0)
        return Position(self.epoch, self.batches)

    def start_pass(self) -> tuple[int, int]:
        """The epoch of the next batch, and how many of its images this rank has seen: where a sampler begins."""
        epoch, batch = self.next_position()
        if self.trainer is None:  # nobody calls `receive`
            self.epoch, self.batches = epoch + 1, 0
        return epoch, batch * self.settings["batch_size"]

    def receive(self) -> Position:
        """Count a training batch that has arrived; returns its position."""
        position = self.next_position()
        self.epoch, self.batches = position.epoch, position.batch + 1
        return position

    def generator(self, position: Position, rank: int) -> torch.Generator:
        """A CPU generator for the augmentation of one batch, a function of (seed, epoch, batch, rank)."""
        key = (self.settings["seed"], *position, rank)
        seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
        return torch.Generator().manual_seed(seed)

    def state_dict(self) -> dict[str, int]:
        """The position of the next batch and the settings. A batch that was received but not yet trained on is next again."""
        if self.loaded or self.trainer is None:
            return self.loaded
        progress = self.trainer.fit_loop.epoch_loop.batch_progress.current
        in_step = progress.ready > progress.processed  # type: ignore[attr-defined]
        epoch, batches = (self.epoch, self.batches - 1) if in_step else self.next_position()
        return {"epoch": epoch, "batches": batches, **self.settings}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next `start` continue at `state`."""
        self.loaded = state
        # Lightning cannot know that this resume is exact
        warnings.filterwarnings("ignore", "You're resuming from a checkpoint that ended before the epoch ended")


class EpochSampler(DistributedSampler):
    """The shuffled indices of one rank, a function of (seed, epoch, number of ranks).

    Each pass begins at `start_pass()`: an epoch, and how many of this rank's images to skip because they were seen before. The
    length stays that of a whole epoch, because the Trainer skips in its own counting; the epoch that the Trainer sets is not
    used (after some checkpoints it is one too far in Lightning 2.6).

    With `classes` (N,), the labels of the images, an epoch has as many images of each class, see `class_balanced`.
    """

    def __init__(
        self,
        images: Dataset[Any],
        num_ranks: int,
        rank: int,
        seed: int,
        start_pass: Callable[[], tuple[int, int]],
        classes: np.ndarray | None = None,
    ) -> None:
        super().__init__(images, num_ranks, rank, shuffle=True, seed=seed, drop_last=len(images) >= num_ranks)  # type: ignore[arg-type]
        self.start_pass = start_pass
        self.classes = classes

    def __iter__(self) -> Iterator[int]:
        epoch, seen = self.start_pass()
        self.set_epoch(epoch)
        order = islice(super().__iter__(), seen, None)
        if self.classes is None:
            return order
        rows = class_balanced(self.classes, (self.seed, epoch))
        return (int(rows[position]) for position in order)


class StridedSampler(DistributedSampler):
    """Every index once and in order: rank r has r, r + num_ranks, ... (DistributedSampler would repeat some to fill up)."""

    def __init__(self, images: Sized, num_ranks: int, rank: int) -> None:
        super().__init__(images, num_ranks, rank, shuffle=False)  # type: ignore[arg-type]  # its length is all that is used
        self.indices = range(rank, len(images), num_ranks)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


def even_batch_size(num_images: int, num_ranks: int, wanted: int) -> int:
    """The smallest batch size >= `wanted` that gives all ranks of a StridedSampler the same number of batches.

    A rank with one batch fewer than the others would leave them waiting in a collective operation.

    Raises:
        UserError: there are fewer images than ranks.
    """
    fewest, rest = divmod(num_images, num_ranks)
    if fewest == 0:
        raise UserError(f"{num_images} images cannot be shared by {num_ranks} processes: use fewer processes, or more data")
    return next(size for size in count(wanted) if rest == 0 or fewest % size)
