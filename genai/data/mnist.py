"""MNIST and Fashion-MNIST, from torchvision's files."""

import gzip
import struct
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torchvision

from genai.data.augment import Augment
from genai.data.base import ImageDataModule, data_roots
from genai.data.cache import Writer
from genai.errors import UserError

CLOTHES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
DATASETS = {"mnist": torchvision.datasets.MNIST, "fashion": torchvision.datasets.FashionMNIST}
PARTS = {"train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"), "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")}
SIZES = {"train": 60_000, "test": 10_000}
VAL = 10_000


class MNIST(ImageDataModule):
    """28x28 grey digits (or clothes): 50,000 / 10,000 / 10,000 images for train, val and test.

    The validation split is the last 10,000 images of the official training file; the test split is the official one. Files in
    torchvision's layout (`<root>/MNIST/raw/train-images-idx3-ubyte`, also `.gz`) are used as they are, else downloaded.

    Args:
        variant: `mnist`, or `fashion` for Fashion-MNIST.
        size: 28, or 32 with two rows of background around.
    """

    num_classes = 10
    label_kind = "class"

    def __init__(
        self,
        variant: Literal["mnist", "fashion"] = "mnist",
        size: Literal[28, 32] = 28,
        root: str | None = None,
        batch_size: int = 128,
        num_workers: int = 0,
        seed: int = 0,
        augment: Augment | None = None,
    ) -> None:
        super().__init__(root, batch_size, num_workers, seed, augment)
        self.variant = variant
        self.size = size
        self.name = variant
        self.class_names = CLOTHES if variant == "fashion" else tuple("0123456789")
        self.image_shape = (1, size, size)

    def cache_options(self) -> dict[str, Any]:
        return {"size": self.size}

    def source(self) -> Any:
        files = [path for part in PARTS for path in self.files(part)]
        return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]

    def build(self, writer: Writer) -> None:
        arrays = {part: (read_idx(images, 3), read_idx(labels, 1)) for part, (images, labels) in self.checked().items()}
        pad = (self.size - 28) // 2
        out = writer.start(70_000, self.image_shape)
        out[:60_000, 0, pad : pad + 28, pad : pad + 28] = arrays["train"][0]
        out[60_000:, 0, pad : pad + 28, pad : pad + 28] = arrays["test"][0]
        labels = np.concatenate([arrays["train"][1], arrays["test"][1]]).astype(np.int64)
        writer.finish(labels, {"train": 60_000 - VAL, "val": VAL, "test": 10_000})

    def checked(self) -> dict[str, tuple[Path, Path]]:
        """Images and labels files of each part."""
        return {part: self.files(part) for part in PARTS}

    def files(self, part: str) -> tuple[Path, Path]:
        """The two files of `part`, downloaded when no root has them."""
        folder = DATASETS[self.variant].__name__
        for root in data_roots(self.root):
            paths = [present(root / folder / "raw" / name) for name in PARTS[part]]
            if all(paths):
                return paths[0], paths[1]  # type: ignore[return-value]
        self.download(data_roots(self.root)[-1])
        raw = data_roots(self.root)[-1] / folder / "raw"
        return raw / PARTS[part][0], raw / PARTS[part][1]

    def download(self, root: Path) -> None:
        """torchvision's download, which checks the sums."""
        dataset = DATASETS[self.variant]
        try:
            dataset(root, download=True)
        except (RuntimeError, OSError) as error:
            raise UserError(
                f"{dataset.__name__} is not in {', '.join(map(str, data_roots(self.root)))} and could not be downloaded "
                f"({str(error).splitlines()[0]}): put its four IDX files into {root / dataset.__name__ / 'raw'}, or set "
                "GENAI_DATA; genai.data.digits.Digits and genai.data.avatars.Avatars need no download"
            ) from None


def present(path: Path) -> Path | None:
    """`path`, or `path`.gz, where it is there."""
    return next((p for p in (path, path.with_name(path.name + ".gz")) if p.is_file()), None)


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """An IDX file of unsigned bytes, plain or gzipped.

    Raises:
        UserError: it is damaged, truncated or of another shape.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is damaged ({error}): delete it to download it again") from None
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes([0, 0, 8, dimensions]):
        raise UserError(f"{path} is not an IDX file of {dimensions} dimensions: delete it to download it again")
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    if len(content) - header != np.prod(shape, dtype=np.int64):
        raise UserError(f"{path} is truncated or too long for its shape {shape}: delete it to download it again")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
