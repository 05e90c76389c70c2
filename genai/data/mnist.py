"""MNIST, Fashion-MNIST and stacked MNIST, from torchvision's files."""

import gzip
import math
import socket
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from torchvision import datasets

from genai.data import cache
from genai.data.arrays import check_subset
from genai.data.base import ImageDataModule, data_roots
from genai.errors import UserError, check_at_least

Variant = Literal["mnist", "fashion", "stacked"]
DIGITS = tuple("0123456789")
CLOTHES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
PREFIXES = {"train": "train", "test": "t10k"}  # of the official files
SIDE = 28
VAL_SHARE = 6  # val is the last sixth of the training file
STACKED_EVAL = 10_000
STACKED_SEEDS = {"train": 0, "val": 1, "test": 2}
NETWORK_TIMEOUT = 5.0  # seconds
MAX_BYTES = 2**28  # of an IDX file; MNIST's have up to 47 MB


class LabelledImages(NamedTuple):
    """images (N, 28, 28) uint8, labels (N,) int64."""

    images: np.ndarray
    labels: np.ndarray


class MNIST(ImageDataModule):
    """28x28 grey digits (or clothes): 50,000 / 10,000 / 10,000 images for train, val and test.

    The validation split is the last 10,000 images of the official training file; the test split is the official one. Files
    in torchvision's layout (`<root>/MNIST/raw/train-images-idx3-ubyte`, also `.gz`, also directly in `<root>`) are read; if
    there are none, torchvision downloads them.

    `stacked` makes images of three channels, each a digit of the same split chosen at random with a fixed seed (Metz et al.
    2017, Unrolled GAN): 1,000 classes, `num_triples` / 10,000 / 10,000 images; 128,000 take 0.3 GB of cache.

    Args:
        variant: `mnist`; `fashion` for Fashion-MNIST; `stacked`.
        size: 28, or 32 with a border of two background pixels.
        num_triples: training images of `stacked`.
        exclude: classes, by number, that train and val leave out; the test split has them all.
        num_train: number of training images to keep, as many of each class; default: all.
        class_shares: relative shares of the classes among the training images, one number for each class; the images are the
            first of each class, as many as these shares allow. Default: the shares of the data.
    """

    label_kind = "class"

    def __init__(
        self,
        variant: Variant = "mnist",
        size: Literal[28, 32] = 28,
        num_triples: int = 128_000,
        exclude: Sequence[int] = (),
        num_train: int | None = None,
        class_shares: Sequence[float] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.variant = variant
        self.size = size
        check_at_least("num_triples", num_triples, 1)
        self.num_triples = num_triples
        self.name = "stacked-mnist" if variant == "stacked" else variant
        self.class_names = class_names(variant)
        self.num_classes = len(self.class_names)
        self.image_shape = (3 if variant == "stacked" else 1, size, size)
        check_subset(exclude, num_train, self.num_classes, class_shares)
        self.exclude = exclude
        self.num_train = num_train
        self.class_shares = class_shares

    def recipe(self) -> cache.Recipe:
        triples = {"num_triples": self.num_triples} if self.variant == "stacked" else {}
        return cache.Recipe({"size": self.size, **triples}, cache.identity(*self.files()), self.build)

    def build(self, writer: cache.Writer) -> None:
        splits = self.load()
        rows = {split: self.triples(split, len(part.labels)) for split, part in splits.items()}
        out = writer.start(sum(map(len, rows.values())), self.image_shape)
        margin = (self.size - SIDE) // 2
        inside = slice(margin, margin + SIDE)
        start, labels = 0, []
        for split, part in splits.items():
            stop = start + len(rows[split])
            for channel in range(self.image_shape[0]):
                out[start:stop, channel, inside, inside] = part.images[rows[split][:, channel]]
            labels.append(decimal(part.labels[rows[split]]))
            start = stop
        writer.finish(np.concatenate(labels), {split: len(chosen) for split, chosen in rows.items()})

    def triples(self, split: str, num: int) -> np.ndarray:
        """Indices into a split's `num` digits that make each image: (images, channels)."""
        if self.variant != "stacked":
            return np.arange(num)[:, None]
        size = self.num_triples if split == "train" else STACKED_EVAL
        return np.random.RandomState(STACKED_SEEDS[split]).randint(num, size=(size, 3))

    def load(self) -> dict[str, LabelledImages]:
        """The official files' images and labels as train, val and test.

        Raises:
            UserError: a file is damaged, or those of train and test are exchanged or the same.
        """
        train_images, train_labels, test_images, test_labels = self.files()
        train = read_pair(train_images, train_labels)
        test = read_pair(test_images, test_labels)
        num_shared = min(len(train.labels), len(test.labels))
        if len(train.labels) < len(test.labels) or np.array_equal(train.images[:num_shared], test.images[:num_shared]):
            raise UserError(
                f"{train_images} and {test_images} are exchanged or copies of each other ({len(train.labels):,} and "
                f"{len(test.labels):,} images): delete both, and their labels, to download them again"
            )
        split = len(train.labels) - len(train.labels) // VAL_SHARE
        return {
            "train": LabelledImages(train.images[:split], train.labels[:split]),
            "val": LabelledImages(train.images[split:], train.labels[split:]),
            "test": test,
        }

    def files(self) -> list[Path]:
        """The four IDX files (train images, train labels, test images, test labels), downloaded if no root has them."""
        roots = data_roots(self.root)
        found = next(filter(None, (self.files_in(root) for root in roots)), None)
        if found is None:
            self.download(roots[0])
            found = self.files_in(roots[0])
        assert found is not None
        return found

    def files_in(self, root: Path) -> list[Path] | None:
        """The four files, or None if this root lacks one."""
        parts = [f"{prefix}-{part}-ubyte" for prefix in PREFIXES.values() for part in ("images-idx3", "labels-idx1")]
        for folder in (root / self.dataset() / "raw", root):
            paths = [present(folder / part) for part in parts]
            if all(paths):
                return [path for path in paths if path]
        return None

    def dataset(self) -> str:
        """torchvision's name of the dataset's class and folder."""
        return "FashionMNIST" if self.variant == "fashion" else "MNIST"

    def download(self, root: Path) -> None:
        """torchvision's download, which checks the hashes; it gives up on a silent network within seconds."""
        try:
            with cache.lock(f"{self.dataset()}-download"), network_timeout(NETWORK_TIMEOUT):
                getattr(datasets, self.dataset())(root, download=True)
        except (RuntimeError, OSError) as error:
            looked = ", ".join(map(str, data_roots(self.root)))
            raise UserError(
                f"{self.dataset()} is not in {looked} and could not be downloaded ({reason(error)}): put its four IDX files "
                f"into {root / self.dataset() / 'raw'}, or set GENAI_DATA or root to the folder that has "
                f"{self.dataset()}/raw; Digits and Avatars need no download"
            ) from None


def class_names(variant: Variant) -> tuple[str, ...]:
    """The names of the labels, in order."""
    if variant == "stacked":
        return tuple(f"{number:03d}" for number in range(1000))
    return CLOTHES if variant == "fashion" else DIGITS


def decimal(digits: np.ndarray) -> np.ndarray:
    """(N, k) digits, the first the most significant -> (N,) numbers."""
    return digits @ 10 ** np.arange(digits.shape[1])[::-1]


def present(path: Path) -> Path | None:
    """`path` or `path`.gz, whichever exists."""
    return next((p for p in (path, path.with_name(path.name + ".gz")) if p.is_file()), None)


def read_pair(images_file: Path, labels_file: Path) -> LabelledImages:
    """The images of one file and their labels from another.

    Raises:
        UserError: the two do not belong together.
    """
    images, labels = read_idx(images_file, 3), read_idx(labels_file, 1)
    if len(images) != len(labels):
        raise UserError(
            f"{labels_file} has {len(labels)} labels for the {len(images)} images of {images_file.name}: "
            "delete both to download them again"
        )
    if images.shape[1:] != (SIDE, SIDE) or labels.max(initial=0) > 9:
        raise UserError(f"{images_file} and its labels are not {SIDE}x{SIDE} images of ten classes: replace them")
    return LabelledImages(images, labels.astype(np.int64))


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """An IDX file of unsigned bytes, plain or gzipped (torchvision reads only unpacked files, and does not check them).

    Raises:
        UserError: it is damaged, truncated or has another number of dimensions.
    """
    opener: Any = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            header = file.read(4 + 4 * dimensions)
            if len(header) < 4 + 4 * dimensions or header[:4] != bytes([0, 0, 8, dimensions]):
                raise UserError(f"{path} is not an IDX file of {dimensions} dimensions: delete it to download it again")
            shape = struct.unpack(f">{dimensions}I", header[4:])
            size = math.prod(shape)
            content = file.read(min(size, MAX_BYTES) + 1)  # what the header says may be too much for the memory
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is damaged ({error}): delete it to download it again") from None
    if len(content) != size:
        raise UserError(f"{path} is truncated or too long for its shape {shape}: delete it to download it again")
    return np.frombuffer(content, np.uint8).reshape(shape)


@contextmanager
def network_timeout(seconds: float) -> Iterator[None]:
    """Time out connections that are opened in this block, instead of waiting for minutes."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def reason(error: Exception) -> str:
    """The last line of an error, where torchvision puts the cause."""
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
