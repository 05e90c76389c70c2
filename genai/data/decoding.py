"""One image file -> pixels: any mode and bit depth, EXIF rotation, central square, antialiased resize."""

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from genai.data.file_types import FORMATS, is_avif, is_heif

MAX_PIXELS = 89_000_000  # of one image; more may be a decompression bomb
BAND = 1_000_000  # pixels that are converted at a time
LARGE = 4_000_000  # pixels of an image that is decoded while no other large one is
large_images = threading.Lock()


def decode_image(content: bytes, size: int, channels: int) -> np.ndarray:
    """An image file -> its central square, uint8 (channels, size, size); the first frame of an animation.

    Transparent images are laid on white, EXIF rotations are applied. Large images are decoded one at a time, so that memory
    does not grow with the number of threads.

    Raises:
        ValueError, OSError and whatever else Pillow raises: the file is damaged, or has more than MAX_PIXELS pixels.
    """
    try:
        file = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError(why_unreadable(content)) from None
    with file as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width}x{image.height} are too many pixels")
        if image.mode in ("RGB", "L"):
            image.draft(image.mode, (2 * size, 2 * size))  # JPEG decodes large images at 1/2, 1/4 or 1/8
        with large_images if image.width * image.height > LARGE else nullcontext():
            ImageOps.exif_transpose(image, in_place=True)
            return to_array(flatten(image), size, channels)


def why_unreadable(content: bytes) -> str:
    """The reason for content that Pillow does not identify."""
    if is_heif(content) or is_avif(content):
        return "HEIC or AVIF: pip install pillow-heif to read it"
    return "damaged, or not a picture"


def flatten(image: Image.Image) -> Image.Image:
    """Any mode -> L or RGB: transparency on white, more than 8 bits reduced to 8."""
    if image.mode.startswith("I") or image.mode == "F":
        extremes = [(values.min(), values.max()) for values in map(np.asarray, bands(image))]
        least, most = np.min(extremes), np.max(extremes)  # NaN if one of them is
        return by_bands(image, "L", lambda band: Image.fromarray(to_bytes(np.asarray(band), least, most)))
    if image.has_transparency_data:
        return by_bands(image, "RGB", on_white)
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def on_white(image: Image.Image) -> Image.Image:
    """A transparent picture on white."""
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def by_bands(image: Image.Image, mode: str, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """`convert(image)`, which has `mode`, band by band: the copies that it makes on the way are small."""
    result, top = Image.new(mode, image.size), 0
    for band in bands(image):
        result.paste(convert(band), (0, top))
        top += band.height
    return result


def bands(image: Image.Image) -> Iterator[Image.Image]:
    """The picture in horizontal bands of about BAND pixels."""
    rows = max(1, BAND // image.width)
    return (image.crop((0, top, image.width, min(top + rows, image.height))) for top in range(0, image.height, rows))


def to_bytes(values: np.ndarray, least: float, most: float) -> np.ndarray:
    """Grey values of any shape, integers of 16 or 32 bits or floats -> uint8.

    The scale follows from the `least` and the largest value of the image, `most`: floats up to 1 are in [0, 1] and floats up to
    255 in [0, 255]; integers up to 4095 have 12 bits, which cameras and scanners store in files of 16; all other values have 16
    bits.

    Raises:
        ValueError: a value is negative, above 16 bits or not finite, so the scale is not known.
    """
    if not (least >= 0 and most <= 65535):
        raise ValueError(f"values from {least:g} to {most:g}: convert it to 0..255, 0..65535 or floats in [0, 1]")
    if np.issubdtype(values.dtype, np.floating):
        top = next(top for top in (1, 255, 65535) if most <= top)
        return np.rint(values * (255 / top)).astype(np.uint8)
    return (values // 257 if most > 4095 else np.rint(values * (255 / 4095))).astype(np.uint8)


def to_array(image: Image.Image, size: int, channels: int) -> np.ndarray:
    """The central square, resized with antialiasing (bicubic), uint8 (channels, size, size)."""
    mode = "RGB" if channels == 3 else "L"
    if image.mode != mode:
        image = image.convert(mode)
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    return np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)
