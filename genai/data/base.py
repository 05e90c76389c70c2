"""The base of all image data modules: splits from a memory-mapped cache, loaders of whole uint8 batches, exact resume."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from torch.utils.data import DataLoader

from genai.data.arrays import SPLITS, Batch, ImageArray, Split, select_rows
from genai.data.augment import Augment, Padding
from genai.data.cache import CacheEntry, Recipe, key_of, open_or_build
from genai.data.module import DataModule, LabelKind, data_roots, ranks
from genai.data.order import EpochSampler, StridedSampler, even_batch_size
from genai.data.words import CaptionTokens
from genai.data.workers import check_shared_memory, loader_settings
from genai.errors import UserError
from genai.images import to_float

__all__ = ["Batch", "ImageArray", "ImageDataModule", "LabelKind", "Split", "data_roots"]


class ImageDataModule(DataModule):
    """Images of one shape, decoded once into a cache; the base class of every image dataset.

    It works with any Trainer and without one, no command line needed:

        data = Digits(batch_size=64)
        L.Trainer(max_epochs=1).fit(model, data)
        images, labels = next(iter(data.train_dataloader()))     # uint8 (64, 1, 8, 8), int64 (64,)
        data.split("test").images                                # uint8 array (350, 1, 8, 8)

    A subclass sets the attributes below in its `__init__`, before any file is opened, and implements `recipe`.

    Attributes:
        name: of the dataset; feature networks and cache entries are looked up by it.
        image_shape: (C, H, W).
        num_classes: classes, attributes, or words of the vocabulary; 0 for data without labels.
        label_kind: `none`, `class` (N,), `attributes` (N, K) or `text` (N, L).
        class_names: names of the classes or attributes; for `text` the vocabulary, see `genai.data.words`.
        caption_tokens: for `text`: the captions as tokens, which are then the labels.
        padding: what augmentation puts outside the image: `black`, or for photographs `border` (the nearest pixel).
        exclude: classes that train and val leave out; test has them all, to see how a model handles unseen classes.
        num_train: number of training images to keep, the same ones each time; None for all.
        class_shares: shares of the classes among the training images, which are then fewer; None for those of the data.

    The training loader shuffles and drops its last short batch; the loaders of val, test and predict (the test split) are in
    order and complete. Batches are uint8 on the loaders and float32 in [-1, 1], augmented in training, when the Trainer has
    moved them to the device (`on_after_batch_transfer`).

    Args:
        root: folder of the data; default: $GENAI_DATA, then data/.
        batch_size: images per batch and device.
        num_workers: loader processes; batches are memory copies, so 0 is fastest.
        seed: of the order and the augmentation; default: the seed of `seed_everything`, 0 if that was not called.
        augment: random flips, rotations, scales and translations in training.
        balance: train on as many images of each class in an epoch: those of rare classes are repeated, of frequent ones left
            out.

    Raises:
        UserError: batch_size or num_workers is out of range.
    """

    image_shape: tuple[int, int, int]
    caption_tokens: CaptionTokens | None = None
    padding: Padding = "black"
    exclude: Sequence[int] = ()
    num_train: int | None = None
    class_shares: Sequence[float] | None = None

    def __init__(
        self,
        root: str | None = None,
        batch_size: int = 128,
        num_workers: int = 0,
        seed: int | None = None,
        augment: Augment | None = None,
        balance: bool = False,
    ) -> None:
        super().__init__(root, batch_size, num_workers, seed)
        self.balance = balance
        self.augment = augment or Augment()
        self._entry: CacheEntry | None = None

    @abstractmethod
    def recipe(self) -> Recipe:
        """How the images are made; the source files are found (and downloaded, if need be) here.

        Raises:
            UserError: the source files are missing and cannot be downloaded.
        """

    # -- splits ---------------------------------------------------------------------------------------------------------

    def prepare_data(self) -> None:
        """Build the cache entry if it is missing.

        Raises:
            UserError: the source is missing, damaged or too small, no training image is left, `balance` has no classes to
                balance, or the shared memory is too small for the loader processes.
        """
        if self.balance and self.label_kind != "class":
            raise UserError(f"balance needs one class for each image, and the labels of {self.name} are {self.label_kind}")
        if not len(self.split("train")):
            raise UserError(f"no training image of {self.name} is left: add images, or exclude fewer classes")
        check_shared_memory(self.num_workers, min(self.batch_size, len(self.split("train"))) * math.prod(self.image_shape))

    def cache_entry(self) -> CacheEntry:
        """The decoded images and labels of all splits, built if they are missing."""
        if self._entry is None:
            self._entry = open_or_build(self.name, self.recipe())
        return self._entry

    def split(self, name: Split) -> ImageArray:
        """One split; the three are disjoint and the same on every machine."""
        entry = self.cache_entry()
        images = entry.images[entry.rows(name)]
        labels = self.caption_tokens.of(name) if self.caption_tokens else entry.labels[entry.rows(name)]
        rows = select_rows(labels, name, self.exclude, self.num_train, self.class_shares)
        return ImageArray(images, labels) if rows is None else ImageArray(images[rows], labels[rows])

    def fingerprint(self, split: Split) -> str:
        """Short hash of the dataset's name, content and split."""
        left_out = {"exclude": sorted(self.exclude)} if self.exclude and split != "test" else {}
        few: dict[str, Any] = {}
        if split == "train":
            few |= {} if self.num_train is None else {"num_train": self.num_train}
            few |= {} if self.class_shares is None else {"class_shares": list(self.class_shares)}
        return key_of({"name": self.name, "sha256": self.cache_entry().meta["sha256"], "split": split, **left_out, **few})

    def describe(self) -> str:
        """The sizes of the splits in a line: `digits 1x8x8: 1,097 train, 350 val, 350 test images`.

        Files that were ignored because they are no images, and images that could not be read, follow by number.
        """
        sizes = ", ".join(f"{len(self.split(name)):,} {name}" for name in SPLITS)
        meta = self.cache_entry().meta
        left_out = {"ignored": sum(meta.get("ignored", {}).values()), "unreadable": len(meta.get("skipped", ()))}
        others = "".join(f", {number:,} {what}" for what, number in left_out.items() if number)
        return f"{self.name} {'x'.join(map(str, self.image_shape))}: {sizes} images{others}"

    # -- loaders --------------------------------------------------------------------------------------------------------

    def train_dataloader(self) -> DataLoader[Batch]:
        images = self.split("train")
        self.order.start(self.trainer, self.seed, self.batch_size)
        classes = images.labels if self.balance else None
        sampler = EpochSampler(images, *ranks(self.trainer), self.order.settings["seed"], self.order.start_pass, classes)
        return make_loader(self, images, sampler=sampler, drop_last=len(sampler) >= self.batch_size)

    def val_dataloader(self) -> DataLoader[Batch]:
        return evaluation_loader(self, "val")

    def test_dataloader(self) -> DataLoader[Batch]:
        return evaluation_loader(self, "test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        return make_loader(self, self.split("test"))

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """uint8 -> float32 in [-1, 1] on the batch's device, augmented in training."""
        images = to_float(batch.images)
        if self.trainer is not None and self.trainer.training:
            position = self.order.receive()
            if self.augment.enabled:
                generator = self.order.generator(position, self.trainer.global_rank)
                images = self.augment(images, generator, self.padding)
        return Batch(images, batch.labels)


def evaluation_loader(data: ImageDataModule, split: Split) -> DataLoader[Batch]:
    """Each image of the split once, over all processes together."""
    images = data.split(split)
    num_ranks, rank = ranks(data.trainer)
    if num_ranks == 1:
        return make_loader(data, images)
    batch_size = even_batch_size(len(images), num_ranks, data.batch_size)
    return make_loader(data, images, sampler=StridedSampler(images, num_ranks, rank), batch_size=batch_size)


def make_loader(data: ImageDataModule, images: ImageArray, **options: Any) -> DataLoader[Batch]:
    """A loader of whole uint8 batches, with the data module's batch size and number of workers."""
    settings = loader_settings(data.batch_size, data.num_workers) | {"collate_fn": identity}
    return DataLoader(images, **settings | options)


def identity(batch: Batch) -> Batch:
    """Collate nothing: `ImageArray.__getitems__` returns whole batches."""
    return batch
