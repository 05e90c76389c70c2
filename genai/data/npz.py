"""A user's own images as arrays: an .npz file with `images` and `labels`."""

import zipfile
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np

from genai.data.base import ImageDataModule
from genai.data.cache import Recipe, Writer, identity
from genai.data.photos import report_images
from genai.data.sources import class_indices, classes_of, find_source, split_rows
from genai.errors import UserError
from genai.memory import check_memory

Layout = Literal["auto", "NHW", "NHWC", "NCHW"]
CHANNELS = (1, 3)


class Npz(ImageDataModule):
    """The images of an .npz file, as `numpy.savez(file, images=..., labels=...)` and `genai sample --out samples.npz` write it.

    `images` is uint8, or floats in [0, 1] or [-1, 1]: (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels. `labels`
    (N,), if there are any, are classes: numbers or text. About 80, 10 and 10 % of the images are train, val and test.

    Args:
        root: the file: a path, or one relative to $GENAI_DATA or data/.
        layout: order of the axes; `auto` finds it where only one axis can be the channels.

    Raises:
        UserError: there is no such file, or its arrays are no images or labels.
    """

    name = "npz"

    def __init__(self, root: str, layout: Layout = "auto", **options: Any) -> None:
        super().__init__(root=root, **options)
        self.path = find_source(root, ".npz file")
        self.layout = layout
        images, labels = read_npz(self.path)
        _, *sizes = to_channels_first(images, layout, self.path).shape
        self.image_shape = (sizes[0], sizes[1], sizes[2])
        if labels is not None:
            self.label_kind = "class"
            self.class_names = classes_of(labels.tolist(), self.path)
            self.num_classes = len(self.class_names)

    def recipe(self) -> Recipe:
        return Recipe({"path": str(self.path), "layout": self.layout}, identity(self.path), self.build)

    def build(self, writer: Writer) -> None:
        """Copy the arrays, split after split."""
        images, labels = read_npz(self.path)
        pixels = to_uint8_array(to_channels_first(images, self.layout, self.path), self.path)
        splits = split_rows(len(pixels), self.path)
        order = [row for rows in splits.values() for row in rows]
        writer.start(len(order), self.image_shape)[:] = pixels[order]
        classes = np.zeros(len(order), np.int64) if labels is None else class_indices(labels[order].tolist(), self.class_names)
        writer.finish(classes, {split: len(rows) for split, rows in splits.items()})
        report_images(self, writer, classes, len(splits["train"]))


def read_npz(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """`images`, and `labels` (N,) if there are any.

    Raises:
        UserError: the file cannot be read, or its labels are no classes.
    """
    arrays = open_npz(path)
    images, labels = arrays["images"], arrays.get("labels")
    if labels is not None and (labels.ndim != 1 or len(labels) != len(images) or labels.dtype.kind not in "iuU"):
        raise UserError(
            f"{path} has labels {labels.dtype} {labels.shape} for {len(images)} images: give one integer or text for each image"
        )
    return images, labels


def open_npz(path: Path) -> dict[str, np.ndarray]:
    """`images`, and `labels` if there are any, by name; nothing of the file is unpickled.

    Raises:
        UserError: it is no .npz, lacks `images`, or holds objects.
    """
    try:
        if not path.is_file() or not zipfile.is_zipfile(path):
            raise ValueError("it is cut short, a single array or another kind of file")
        with zipfile.ZipFile(path) as archive:
            check_memory(sum(member.file_size for member in archive.infolist()), f"the arrays of {path}", "check the file")
        with np.load(path, allow_pickle=False) as arrays:
            if "images" not in arrays:
                raise UserError(f"{path} has no array `images` (there: {', '.join(arrays) or 'none'}): name it `images`")
            return {name: arrays[name] for name in ("images", "labels") if name in arrays}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, MemoryError) as error:
        raise UserError(f"{path} cannot be read ({error}): write it with numpy.savez(file, images=..., labels=...)") from None


def to_channels_first(images: np.ndarray, layout: Layout, path: Path) -> np.ndarray:
    """Images of any layout -> (N, C, H, W).

    Raises:
        UserError: no axis, or more than one, can be the channels.
    """
    shape = images.shape
    if 0 in shape[1:]:
        raise UserError(f"{path} has images {shape} without pixels: give (N, H, W), (N, H, W, C) or (N, C, H, W)")
    if layout == "auto" and images.ndim == 4:
        possible: list[Layout] = [name for name, axis in (("NCHW", 1), ("NHWC", 3)) if shape[axis] in CHANNELS]  # type: ignore[misc]
        if len(possible) == 2:
            raise UserError(f"{path} has images {shape}, which can be NCHW and NHWC: set layout")
        layout = possible[0] if possible else "auto"
    if layout in ("auto", "NHW") and images.ndim == 3:
        return images[:, None]
    if images.ndim == 4 and layout == "NHWC" and shape[3] in CHANNELS:
        return images.transpose(0, 3, 1, 2)
    if images.ndim == 4 and layout == "NCHW" and shape[1] in CHANNELS:
        return images
    raise UserError(f"{path} has images {shape}: give (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels")


OVERSHOOT = 0.02  # of images in [0, 1] after a filter


def to_uint8_array(images: np.ndarray, path: Path) -> np.ndarray:
    """uint8, or floats in [0, 1] or [-1, 1] -> uint8.

    Raises:
        UserError: another type, or values out of range.
    """
    if images.dtype == np.uint8:
        return images
    is_number = images.dtype.kind in "iufb" and images.size
    low, high = (float(images.min()), float(images.max())) if is_number else (0.0, 0.0)
    if images.dtype.kind != "f" or not -1 <= low <= high <= 1:  # NaN as well
        fix = "give uint8, or floats in [0, 1] or [-1, 1]"
        raise UserError(f"{path} has images {images.dtype} from {low:g} to {high:g}: {fix}")
    scaled = (images + 1) / 2 if low < -OVERSHOOT else images  # a filter leaves [0, 1] by a little
    return (scaled.clip(0, 1) * 255).round().astype(np.uint8)
