"""The Olivetti faces: ten grey photographs of each of 40 people, from scikit-learn."""

import io
import pickletools
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from genai.data import cache
from genai.data.base import ImageDataModule, data_roots
from genai.data.decoding import to_array
from genai.errors import UserError, check_at_least

PEOPLE = tuple(f"person {i}" for i in range(40))
NUM_IMAGES, NUM_PIXELS = 400, 64 * 64
DTYPES = ("u1", "f4", "f8")
MAX_HEADER = 4096  # bytes of the file before its numbers


class Olivetti(ImageDataModule):
    """400 photographs: each person's ninth is in val, the tenth in test, the first eight in train (320 / 40 / 40).

    scikit-learn's file is downloaded if no root has it.

    Args:
        size: of the square images, in pixels; the originals have 64.
        channels: 3 (grey in RGB), or 1.
        labels: `none`, or `person`: 40 classes.
    """

    name = "olivetti"
    padding = "border"

    def __init__(
        self,
        size: int = 64,
        channels: Literal[1, 3] = 3,
        labels: Literal["none", "person"] = "none",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        check_at_least("size", size, 1)
        self.size = size
        self.channels = channels
        self.labels = labels
        self.image_shape = (channels, size, size)
        self.label_kind = "class" if labels == "person" else "none"
        self.class_names = PEOPLE if labels == "person" else ()
        self.num_classes = len(self.class_names)

    def recipe(self) -> cache.Recipe:
        options = {"where": self.name, "shape": self.image_shape, "labels": self.labels, "strict": False}
        return cache.Recipe(options, cache.identity(find_file(self.root)), self.build)

    def build(self, writer: cache.Writer) -> None:
        faces = read_faces(find_file(self.root))
        number = np.arange(len(faces)) % 10  # of the photograph of its person
        order = np.concatenate([np.flatnonzero(number < 8), np.flatnonzero(number == 8), np.flatnonzero(number == 9)])
        out = writer.start(len(order), self.image_shape)
        for row, i in enumerate(order):
            grey = Image.fromarray(faces[i])
            out[row] = to_array(grey, self.size, self.channels)
        labels = order // 10 if self.labels == "person" else np.zeros(len(order))
        writer.finish(labels.astype(np.int64), {"train": int((number < 8).sum()), "val": 40, "test": 40})


def read_faces(file: Path) -> np.ndarray:
    """The photographs in scikit-learn's file, uint8 (400, 64, 64).

    The file is a pickle by joblib. It is not unpickled: the opcodes before the numbers are read as data, so a file from
    elsewhere executes nothing.

    Raises:
        UserError: the file has another layout.
    """
    limit = MAX_HEADER + NUM_IMAGES * NUM_PIXELS * 8
    content = file.read_bytes() if file.stat().st_size <= limit else b""
    try:
        if content[:1] == b"\x78":  # zlib
            content = zlib.decompressobj().decompress(content, limit + 1)
        pixels = numbers(content).reshape(NUM_IMAGES, 64, 64).astype(np.float32)
        pixels -= pixels.min()
        if not pixels.any():
            raise ValueError("all its numbers are the same")
    except (ValueError, zlib.error) as error:
        raise UserError(f"{file} is damaged ({error}): delete it to download it again") from None
    return np.rint(pixels * (255 / pixels.max())).astype(np.uint8).transpose(0, 2, 1)  # each is stored column by column


def numbers(content: bytes) -> np.ndarray:
    """The array of 400 x 4096 numbers that joblib wrote; ValueError for any other content."""
    header: list[object] = []
    stream = io.BytesIO(content[:MAX_HEADER])
    for opcode, argument, _ in pickletools.genops(stream):
        if argument is not None and "PUT" not in opcode.name and "GET" not in opcode.name:  # these number what was read
            header.append(argument)
        if opcode.name == "BUILD" and "allow_mmap" in header:  # the wrapper's last field but one
            break
    dtype = next((name for name in DTYPES if name in header), "")
    if not any("NumpyArrayWrapper" in str(value) for value in header) or not dtype or "F" in header or ">" in header:
        raise ValueError("it holds no array of numbers")
    size = NUM_IMAGES * NUM_PIXELS * np.dtype(dtype).itemsize
    start = len(content) - 1 - size  # the pickle ends with one byte more
    padding = start - stream.tell()
    if header[header.index("shape") + 1 :][:2] != [NUM_IMAGES, NUM_PIXELS] or not 0 <= padding <= 64 or content[-1:] != b".":
        raise ValueError(f"it does not hold {NUM_IMAGES} x {NUM_PIXELS} numbers")
    array = np.frombuffer(content, f"<{dtype}", NUM_IMAGES * NUM_PIXELS, start)
    if not np.isfinite(array).all():
        raise ValueError("it holds numbers that are not finite")
    return array


def find_file(root: str | None) -> Path:
    """scikit-learn's file, downloaded if no root has it."""
    candidates = [folder / name for folder in data_roots(root) for name in ("olivetti/olivetti_py3.pkz", "olivetti_py3.pkz")]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        found = candidates[0]
        download(found)
    return found


def download(file: Path) -> None:
    """scikit-learn's download."""
    from sklearn.datasets import fetch_olivetti_faces

    try:
        fetch_olivetti_faces(data_home=str(file.parent), n_retries=0)
    except OSError as error:
        raise UserError(
            f"the Olivetti faces are not there and could not be downloaded ({error}): put scikit-learn's olivetti_py3.pkz at "
            f"{file}; Avatars needs no download"
        ) from None
