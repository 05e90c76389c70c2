"""What every data module shares: splits in a memory-mapped cache, batches as uint8, an order that resumes exactly."""

import os
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import lightning as L
import numpy as np
import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from genai.data.augment import Augment, Padding
from genai.data.cache import Stored, Writer, key_of, open_or_build
from genai.data.words import encode
from genai.errors import UserError
from genai.images import to_float

Split = Literal["train", "val", "test"]
LabelKind = Literal["none", "class", "attributes", "text"]


class Batch(NamedTuple):
    """A batch of images and labels.

    images: (N, C, H, W), uint8 on the loaders, float32 in [-1, 1] after the transfer to the device.
    labels: (N,) int64 classes, (N, K) float32 attributes of 0 and 1, (N, L) int64 words of a caption with 0 for padding, or
        (N,) zeros where there are no labels.
    """

    images: Tensor
    labels: Tensor


class ImageArray(Dataset[Batch]):
    """One split: `images` uint8 (N, C, H, W), memory-mapped, and `labels` (N,), (N, K) or (N, L)."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images = images
        self.labels = labels
        self._images = np.asarray(images)  # without the bookkeeping that a memmap adds to each operation

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Batch:
        """One image, uint8 (C, H, W), and its label."""
        return Batch(torch.from_numpy(self._images[index]), torch.as_tensor(self.labels[index]))

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """DataLoader's protocol for a whole batch in one call."""
        return self.batch(indices)

    def batch(self, indices: Any) -> Batch:
        """The images and labels at `indices`, uint8 (len(indices), C, H, W) and their labels."""
        # NumPy's, because torch's threads cost more than they bring in copies this small
        return Batch(torch.from_numpy(self._images.take(indices, axis=0)), torch.from_numpy(self.labels.take(indices, axis=0)))


class EpochSampler(DistributedSampler):
    """The order of an epoch, a function of (seed, epoch, number of ranks).

    Each pass begins where `seen()` says: at an epoch, and a number of images of this rank that it leaves out as seen. The
    length stays that of a whole epoch, as the trainer counts for itself; the epoch it sets is not used (after some
    checkpoints it is one too far, as of Lightning 2.6).
    """

    def __init__(self, images: ImageArray, num_ranks: int, rank: int, seed: int, seen: Callable[[], tuple[int, int]]) -> None:
        super().__init__(images, num_ranks, rank, shuffle=True, seed=seed, drop_last=len(images) >= num_ranks)
        self.seen = seen

    def __iter__(self) -> Iterator[int]:
        epoch, done = self.seen()
        self.set_epoch(epoch)
        return islice(super().__iter__(), done, None)


class StridedSampler(DistributedSampler):
    """Every image once and in order: rank r has r, r + number of ranks, ..., where DistributedSampler would repeat some."""

    def __init__(self, images: ImageArray, num_ranks: int, rank: int) -> None:
        super().__init__(images, num_ranks, rank, shuffle=False)
        self.indices = range(rank, len(images), num_ranks)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


def even_batch_size(num_images: int, num_ranks: int, wanted: int) -> int:
    """The first batch size from `wanted` on with which all ranks of a StridedSampler have equally many batches.

    With one batch fewer than the others, a rank would leave them waiting for it.

    Raises:
        UserError: there are fewer images than ranks.
    """
    fewest, rest = divmod(num_images, num_ranks)
    if fewest == 0:
        raise UserError(f"{num_images} images cannot be shared by {num_ranks} processes: use fewer, or more data")
    return next(size for size in count(wanted) if rest == 0 or fewest % size)


class ImageDataModule(L.LightningDataModule):
    """Images of one shape, decoded once into a cache.

    A concrete module sets `name`, `image_shape`, `num_classes`, `label_kind` and `class_names` in its `__init__`, without
    touching a file, and says where its images come from: `cache_options`, `source`, `build`. `padding` is what augmentation
    puts where it moves the picture away: "black", or for photographs "border" (the nearest pixel). `exclude` names classes that
    train and val leave out; the test split has them all, so that one can see what a model makes of what it has never seen.
    `num_train` keeps that many training images, as many of each class as there are, the same ones each time.

    Where `label_kind` is "text", `class_names` is the vocabulary (see `genai.data.words`), `num_classes` its size, and the
    labels are the `captions`, which have at most `caption_length` words; the labels in the cache are then not used.

    The loaders of val, test and predict (the test split) are in order and complete; training drops its last short batch.

    Args:
        root: folder of the data; else $GENAI_DATA, else data/.
        batch_size: images per batch and device.
        num_workers: loader processes; batches are memory copies, so 0 is fastest.
        seed: of the order and the augmentation.
        augment: random flips, rotations, scales and translations in training.
    """

    name: str
    image_shape: tuple[int, int, int]
    num_classes: int = 0
    label_kind: LabelKind = "none"
    class_names: tuple[str, ...] = ()
    caption_length: int = 0
    padding: Padding = "black"
    exclude: Sequence[int] = ()
    num_train: int | None = None

    def __init__(
        self,
        root: str | None = None,
        batch_size: int = 128,
        num_workers: int = 0,
        seed: int = 0,
        augment: Augment | None = None,
    ) -> None:
        super().__init__()
        self.root = root
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.augment = augment or Augment()
        self._stored: Stored | None = None
        self._tokens: dict[Split, np.ndarray] = {}
        self._epoch = 0  # of the training batch that came last, and how many came in that epoch
        self._batches = 0
        self._resume: dict[str, int] = {}

    @abstractmethod
    def cache_options(self) -> dict[str, Any]:
        """The options that determine the pixels and labels (JSON)."""

    @abstractmethod
    def source(self) -> Any:
        """What identifies the files the cache is built from (JSON): a changed one makes the cache stale.

        Raises:
            UserError: the data are not there and cannot be had.
        """

    @abstractmethod
    def build(self, writer: Writer) -> None:
        """Decode: `writer.start`, fill the array split after split (train, val, test), `writer.finish`."""

    # -- splits ---------------------------------------------------------------------------------------------------------

    def stored(self) -> Stored:
        """The cache entry, built when needed."""
        if self._stored is None:
            self._stored = open_or_build(self.name, self.cache_options(), self.source(), self.build)
        return self._stored

    def split(self, name: Split) -> ImageArray:
        """One split; the three are disjoint and the same on every machine."""
        stored = self.stored()
        rows = stored.rows(name)
        images, labels = stored.images[rows], self.tokens(name) if self.label_kind == "text" else stored.labels[rows]
        if self.exclude and name != "test":
            kept = ~np.isin(labels, self.exclude)
            images, labels = images[kept], labels[kept]
        if self.num_train is not None and name == "train":
            chosen = balanced(labels, self.num_train)
            images, labels = images[chosen], labels[chosen]
        return ImageArray(images, labels)

    def captions(self, split: Split) -> list[str]:
        """A sentence for each image of the split, in words of the vocabulary."""
        raise NotImplementedError(f"{type(self).__name__} has no captions")

    def tokens(self, split: Split) -> np.ndarray:
        """The captions of the split as words (N, caption_length) int64."""
        if split not in self._tokens:
            rows = [encode(caption, self.class_names, self.caption_length) for caption in self.captions(split)]
            self._tokens[split] = np.array(rows, np.int64)
        return self._tokens[split]

    def fingerprint(self, split: Split) -> str:
        """Short hash of the dataset, the options that change pixels, the content and the split."""
        left_out = {"exclude": sorted(self.exclude)} if self.exclude and split != "test" else {}
        few = {"num_train": self.num_train} if self.num_train is not None and split == "train" else {}
        return key_of({"name": self.name, "sha256": self.stored().meta["sha256"], "split": split, **left_out, **few})

    def check_exclude(self) -> None:
        """Raise UserError unless `exclude` names classes, and leaves some."""
        unknown = [k for k in self.exclude if not 0 <= k < self.num_classes]
        if unknown or (self.exclude and len(set(self.exclude)) == self.num_classes):
            raise UserError(
                f"exclude {list(self.exclude)} should name some of the classes 0 to {self.num_classes - 1}, not all"
            )

    def check_num_train(self) -> None:
        """Raise UserError unless `num_train`, where it is given, leaves an image."""
        if self.num_train is not None and self.num_train < 1:
            raise UserError(f"num_train {self.num_train} leaves nothing to learn from: use 1 or more")

    def prepare_data(self) -> None:
        self.stored()

    def setup(self, stage: str) -> None:
        self.stored()

    # -- loaders --------------------------------------------------------------------------------------------------------

    def train_dataloader(self) -> DataLoader[Batch]:
        images = self.split("train")
        self.start_training()
        sampler = EpochSampler(images, *self.ranks(), self.seed, self.seen)
        return self.loader(images, sampler=sampler, drop_last=len(sampler) >= self.batch_size)

    def ranks(self) -> tuple[int, int]:
        """How many processes there are, and which this is."""
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self.evaluation_loader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        return self.evaluation_loader("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        return self.loader(self.split("test"))

    def evaluation_loader(self, split: Split) -> DataLoader[Batch]:
        """Each image of the split once, over all processes together."""
        images = self.split(split)
        num_ranks, rank = self.ranks()
        if num_ranks == 1:
            return self.loader(images)
        batch_size = even_batch_size(len(images), num_ranks, self.batch_size)
        return self.loader(images, sampler=StridedSampler(images, num_ranks, rank), batch_size=batch_size)

    def loader(self, images: ImageArray, **options: Any) -> DataLoader[Batch]:
        """A loader of whole batches, uint8."""
        settings: dict[str, Any] = {"batch_size": self.batch_size, "num_workers": self.num_workers, "collate_fn": whole}
        settings |= {"pin_memory": torch.cuda.is_available(), "persistent_workers": self.num_workers > 0}
        return DataLoader(images, **settings | options)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """To float32 in [-1, 1] on the batch's device, and in training the augmentation."""
        images = to_float(batch.images)
        if self.trainer is not None and self.trainer.training:
            self._epoch, self._batches = self.position()
            if self.augment.is_on:
                images = self.augment(images, self.generator(self.trainer.global_rank), self.padding)
            self._batches += 1
        return Batch(images, batch.labels)

    def generator(self, rank: int) -> torch.Generator:
        """A generator for this batch's augmentation, a function of (seed, epoch, batch, rank)."""
        key = (self.seed, self._epoch, self._batches, rank)
        seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
        return torch.Generator().manual_seed(seed)

    # -- resuming -------------------------------------------------------------------------------------------------------

    def position(self) -> tuple[int, int]:
        """The epoch and the number in it, from 0, of the next training batch."""
        if self.trainer is not None and self._batches >= self.trainer.num_training_batches:
            return self._epoch + 1, 0
        return self._epoch, self._batches

    def seen(self) -> tuple[int, int]:
        """The epoch of the next training batch and how many of its images this rank has had."""
        epoch, batches = self.position()
        return epoch, batches * self.batch_size

    def state_dict(self) -> dict[str, int]:
        """The position of the next training batch, and what the order depends on. A batch not yet trained on is next again."""
        if self._resume or self.trainer is None:
            return self._resume
        progress = self.trainer.fit_loop.epoch_loop.batch_progress.current
        if progress.ready > progress.processed:  # type: ignore[attr-defined]
            epoch, batches = self._epoch, self._batches - 1
        else:
            epoch, batches = self.position()
        return {"epoch": epoch, "batches": batches, **self.order()}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """The next training loader goes on where this state was saved; a state loaded to validate or test is left alone."""
        if self.trainer is None or self.trainer.state.fn == TrainerFn.FITTING:
            self._resume = state_dict
            # Lightning cannot know that this is exact
            warnings.filterwarnings("ignore", "You're resuming from a checkpoint that ended before the epoch ended")

    def start_training(self) -> None:
        """Set the position for a new training loader; a loaded state serves once."""
        state, self._resume = self._resume, {}
        if not state:
            self._epoch, self._batches = (self.trainer.current_epoch if self.trainer else 0), 0
            return
        self._epoch, self._batches = state["epoch"], state["batches"]
        changed = [f"{name} {state[name]} -> {value}" for name, value in self.order().items() if state[name] != value]
        if changed and self._batches:
            rank_zero_warn(f"resuming within an epoch in another order ({', '.join(changed)}): it may repeat or miss images")

    def order(self) -> dict[str, int]:
        """What the order of training depends on, beside the epoch."""
        world_size = self.trainer.world_size if self.trainer else 1
        return {"seed": self.seed, "batch_size": self.batch_size, "world_size": world_size}


def balanced(labels: np.ndarray, num: int) -> np.ndarray:
    """Rows of the first `num` images, in order, of labels (N,) taken in turn from each class."""
    turn = np.empty(len(labels), np.int64)
    for k in np.unique(labels):
        turn[labels == k] = np.arange((labels == k).sum())
    return np.sort(np.argsort(turn, kind="stable")[:num])


def whole(batch: Any) -> Any:
    """`__getitems__` gave a whole batch already."""
    return batch


def data_roots(root: str | None) -> list[Path]:
    """Where to look for files, in order: `root` alone when given, else $GENAI_DATA and data/."""
    if root is not None:
        return [Path(root)]
    return [Path(folder) for folder in (os.environ.get("GENAI_DATA"), "data") if folder]
