"""Images that a verb reads, files or test images of the run; and rows of tiles that it writes."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from genai.cli.options.arguments import VerbParser, positive
from genai.cli.options.labels import LabelOptions, edit_condition
from genai.cli.options.run import LoadedRun
from genai.data.archives import MAX_BYTES
from genai.data.decoding import decode_image, why
from genai.errors import UserError
from genai.files import read_bounded
from genai.images import to_float
from genai.models.capabilities import Encodes

MAX_COLUMNS = 16
BATCH_SIZE = 500
IMAGE_HELP = "an image file, or test/7 for image 7 of the run's test split"

OWN_LABELS = "the labels of test images; unconditional for other images"  # the default of `read_examples`


def add_image_options(parser: VerbParser, num: int) -> None:
    """Add IMAGE... and the number of results for each."""
    parser.add_argument("images", metavar="IMAGE", nargs="+", help=IMAGE_HELP)
    parser.add_argument("--num", type=positive, default=num, metavar="N", help=f"results for each image (default: {num})")


def add_optional_image_options(parser: VerbParser, num: int) -> None:
    """Add [IMAGE...], and the number of test images to use if no image is given."""
    parser.add_argument("images", metavar="IMAGE", nargs="*", help=f"{IMAGE_HELP}; default: the first test images")
    parser.add_argument("--num", type=positive, metavar="N", help=f"number of test images, without IMAGE (default: {num})")


def read_images(names: Sequence[str], source: LoadedRun) -> Tensor:
    """Images in the format of the model, (N, C, H, W) float in [-1, 1]; see `read_image`."""
    return torch.stack([read_image(name, source) for name in names])


def read_image(name: str, source: LoadedRun) -> Tensor:
    """An image file, its central square resized to the model's resolution, or a test image of the run: (C, H, W).

    Raises:
        UserError: the image does not exist, or cannot be read.
    """
    channels, size, _ = source.model.image_shape
    index = name.removeprefix("test/")
    if index == name or not index.isdecimal():
        return to_float(read_picture(name, size, channels, "image", "a file, or test/0 for the first test image of the run"))
    images = source.test_split().images
    if int(index) >= len(images):
        raise UserError(f"there is no {name}: the test split has {len(images):,} images, test/0 to test/{len(images) - 1}")
    return to_float(torch.from_numpy(images[int(index)].copy()))


def read_picture(name: str, size: int, channels: int, what: str, choice: str) -> Tensor:
    """The central square of a picture file, uint8 (channels, size, size).

    Raises:
        UserError: there is no such file, or it cannot be read; the message names `what` it is and the possible `choice`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, about unusual metadata
            return torch.from_numpy(decode_image(read_bounded(Path(name), MAX_BYTES), size, channels).copy())
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"there is no {what} {name}: name {choice}") from None
    except Exception as error:  # Pillow raises nearly anything on damaged bytes
        raise UserError(f"the {what} {name} cannot be read ({why(error)}): name a PNG or JPEG") from None


def note_other_size(name: str, size: int) -> None:
    """One line if a picture file has another size than the model's images."""
    if Path(name).is_file():
        try:
            with warnings.catch_warnings(action="ignore"), Image.open(name) as picture:
                width, height = picture.size
        except Exception:  # Pillow raises nearly anything on damaged bytes
            return  # `read_picture` says what is wrong
        if (width, height) != (size, size):
            print(f"{name} is {width}x{height}: its central square is resized to {size}x{size}")


class Examples(NamedTuple):
    """Images (N, C, H, W) in [-1, 1] and their condition: (N,), (N, K), (N, L) or None."""

    images: Tensor
    condition: Tensor | None


def read_examples(names: Sequence[str], num: int, labels: LabelOptions, source: LoadedRun) -> Examples:
    """The images in `names` with the condition of `labels`; without names the first `num` test images and their labels."""
    if names:
        images = read_images(names, source)
        return Examples(images, edit_condition(labels, len(images), source))
    split = source.test_split()
    pixels, own_labels = split.batch(range(min(num, len(split))))
    images = to_float(pixels)
    if source.model.conditional and not labels.label:
        return Examples(images, own_labels)
    return Examples(images, edit_condition(labels, len(images), source))


def encode_images(model: Encodes, images: Tensor, condition: Tensor | None) -> Tensor:
    """Codes (N, D) of uint8 images (N, C, H, W), in batches."""
    parts = []
    for start in range(0, len(images), BATCH_SIZE):
        rows = slice(start, start + BATCH_SIZE)
        parts.append(model.encode(to_float(images[rows]), None if condition is None else condition[rows]).cpu())
    return torch.cat(parts)


# -- tiles ---------------------------------------------------------------------------------------------------------------


def tile_rows(first: Sequence[Tensor], results: Tensor) -> tuple[Tensor, int]:
    """Tiles (M, C, H, W) and the number of columns: row i has image i of each of `first` (N, C, H, W), then its results.

    Args:
        first: images at the left of the results.
        results: (N * num, C, H, W), `num` of each image one after the other.
    """
    left = torch.stack([tiles.cpu() for tiles in first], dim=1)  # (N, len(first), C, H, W)
    rows = torch.cat([left, results.cpu().unflatten(0, (len(left), -1))], dim=1)
    return rows.flatten(0, 1), rows.shape[1]


def stack_rows(rows: Sequence[Tensor]) -> tuple[Tensor, int]:
    """Tiles (M, C, H, W) and the number of columns: each of `rows` (N, C, H, W) under the one before.

    Long rows are wrapped after 16 images; black tiles fill the last line.
    """
    columns = min(MAX_COLUMNS, len(rows[0]))
    missing = -len(rows[0]) % columns
    filled = [pad(row.cpu(), (0, 0) * 3 + (0, missing), value=-1.0) for row in rows]
    return torch.stack(filled).unflatten(1, (-1, columns)).transpose(0, 1).flatten(0, 2), columns
