"""Pictures that any program made, as arrays of a dataset's shape: a folder, zip or tar of files, or an .npz."""

import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from genai.data import archives
from genai.data.decoding import decode_image
from genai.data.npz import open_npz, to_channels_first, to_uint8_array
from genai.errors import UserError


def read_pictures(path: Path, shape: tuple[int, int, int], at_least: int = 2) -> tuple[Tensor, Tensor | None]:
    """Images uint8 (N, C, H, W) of exactly the given shape, and the classes (N,) of an .npz that has some.

    Raises:
        UserError: there is no such path, it has fewer than `at_least` images, or they have another shape.
    """
    if not path.exists():
        raise UserError(f"there is no file or folder {path}: name a folder, .zip or .tar of pictures, or an .npz with `images`")
    labels = None
    if path.suffix == ".npz":
        arrays = open_npz(path)
        pixels = to_uint8_array(to_channels_first(arrays["images"], "auto", path), path)
        images = torch.from_numpy(np.ascontiguousarray(pixels))
        if "labels" in arrays and arrays["labels"].ndim == 1 and arrays["labels"].dtype.kind in "iu":
            labels = torch.from_numpy(arrays["labels"].astype(np.int64))
    else:
        found = list(decoded(path, shape))
        if not found:
            raise UserError(f"{path} has no pictures: name a folder, .zip or .tar of pictures, or an .npz with `images`")
        images = torch.from_numpy(np.stack(found))
    if tuple(images.shape[1:]) != shape:
        raise UserError(f"{path} has images {tuple(images.shape[1:])}, and the dataset's are {shape} (C, H, W): resize them")
    if len(images) < at_least:
        raise UserError(f"{path} has {len(images)} image, and at least {at_least} are needed: add images")
    return images, labels


def decoded(path: Path, shape: tuple[int, int, int]) -> Iterator[np.ndarray]:
    """The pictures of a folder or archive, uint8 (C, H, W) each; UserError for one of another size or that cannot be read."""
    channels, height, width = shape
    for picture in archives.pictures(path):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's, about odd metadata
                with Image.open(io.BytesIO(picture.content)) as image:
                    size = image.size
                if size == (width, height):
                    yield decode_image(picture.content, width, channels)
                    continue
        except Exception as error:  # Pillow raises nearly anything on damaged bytes
            raise UserError(f"{path} has a picture that cannot be read, {picture.name} ({error}): remove it") from None
        found = "x".join(map(str, size))
        raise UserError(f"{path} has {picture.name} of {found} pixels, the dataset has {width}x{height}: resize them first")
