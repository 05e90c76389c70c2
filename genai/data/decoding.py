"""One image file -> pixels: any mode and bit depth, EXIF rotation, central square, antialiased resize."""

import io
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ExifTags import Base as Tag
from PIL.TiffImagePlugin import TiffImageFile

from genai.data.file_types import FORMATS, is_avif, is_heif

MAX_PIXELS = 89_000_000  # of one image; more may be a decompression bomb
BAND = 1_000_000  # pixels that are converted at a time
LARGE = 4_000_000  # pixels of an image that is decoded while no other large one is
MAX_VALUE = 65535
INTEGER_SCALES = tuple(2**bits - 1 for bits in (8, 10, 12, 14, 16))
ORIENTATION, BITS_PER_SAMPLE = Tag.Orientation, Tag.BitsPerSample
large_images = threading.Lock()


class Depth(NamedTuple):
    """The kind of the values of an image with more than 8 bits a channel, the largest of them, and the value taken for white.

    `white` is a guess from this image alone: 1, 255 or 65535 for floats; 4095 for grey integers up to this, which cameras store
    in files of 16 bits; otherwise 65535.
    """

    kind: Literal["integer", "float"]
    most: float
    white: float = 65535


class Decoded(NamedTuple):
    """Pixels uint8 (channels, size, size); and the depth of the file, None for one of 8 bits."""

    pixels: np.ndarray
    depth: Depth | None


def decode_image(content: bytes, size: int, channels: int) -> np.ndarray:
    """The pixels of one image alone, see `decode`."""
    return decode(content, size, channels, {}).pixels


def decode(content: bytes, size: int, channels: int, scales: Mapping[str, float]) -> Decoded:
    """An image file -> its central square, uint8 (channels, size, size); the first frame of an animation.

    Transparent images are laid on white, EXIF rotations are applied. Large images are decoded one at a time, so that memory
    does not grow with the number of threads.

    Args:
        content: of the file.
        size: of the square, in pixels.
        channels: 1 or 3.
        scales: the value of white of `integer` and `float` images of more than 8 bits; without it, the image's own largest
            value decides, see `Depth`.

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
            depth = depth_of(image, content)
            flat = flatten(image, depth, scales, content)
            return Decoded(to_array(ImageOps.exif_transpose(flat), size, channels), depth)


def depth_of(image: Image.Image, content: bytes) -> Depth | None:
    """The depth of an image of more than 8 bits a channel. Pillow reads the high bytes of colour images alone.

    Raises:
        ValueError: a value is negative, above 16 bits or not finite, so the scale is not known.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        extremes = [(values.min(), values.max()) for values in map(np.asarray, bands(image))]
        least, most = np.min(extremes), np.max(extremes)  # NaN if one of them is
        if not (least >= 0 and most <= MAX_VALUE):
            raise ValueError(f"values from {least:g} to {most:g}: convert it to 0..255, 0..65535 or floats in [0, 1]")
        if image.format == "PPM":  # Pillow has scaled its values
            return Depth("integer", MAX_VALUE)
        if image.mode == "F":
            return Depth("float", float(most), set_white("float", most))
        return Depth("integer", float(most), 4095 if most <= 4095 else MAX_VALUE)
    if not has_high_bytes(image, content):
        return None
    extremes = list(np.reshape(image.getextrema(), (-1, 2)))
    colours = extremes[:-1] if image.mode in ("LA", "RGBA") else extremes
    return Depth("integer", 256.0 * max(int(high) for _, high in colours) + 255)


def has_high_bytes(image: Image.Image, content: bytes) -> bool:
    """Whether the file has 16 bits a channel, and the image only the upper 8 of them."""
    if image.format == "PNG":
        return content[12:16] == b"IHDR" and content[24] == 16
    return isinstance(image, TiffImageFile) and 16 in np.atleast_1d(image.tag_v2.get(BITS_PER_SAMPLE, 8))


def set_white(kind: Literal["integer", "float"], most: float) -> float:
    """The value of white, where `most` is the largest value of a whole set: 1, 255 or 65535 for floats, or 8 to 16 bits."""
    return next(white for white in ((1, 255, MAX_VALUE) if kind == "float" else INTEGER_SCALES) if most <= white)


def why(error: Exception) -> str:
    """Why a picture cannot be read, in a line; `error` is what `decode` raised."""
    kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
    return f"{kind}{' '.join(str(error).split())}".removesuffix(": ")


def why_unreadable(content: bytes) -> str:
    """The reason for content that Pillow does not identify."""
    if is_heif(content) or is_avif(content):
        return "HEIC or AVIF: pip install pillow-heif to read it"
    return "damaged, or not a picture"


def flatten(image: Image.Image, depth: Depth | None, scales: Mapping[str, float], content: bytes) -> Image.Image:
    """Any mode -> L or RGB: transparency on white, more than 8 bits reduced to 8; the EXIF data stays."""
    exif = image.getexif()
    flat = reduce(image, depth, scales, content)
    if flat is not image and (turned := exif.get(ORIENTATION)):
        flat.getexif()[ORIENTATION] = turned
    return flat


def reduce(image: Image.Image, depth: Depth | None, scales: Mapping[str, float], content: bytes) -> Image.Image:
    """`flatten` without the EXIF data."""
    if depth is not None:
        is_grey = image.mode == "F" or image.mode.startswith("I")
        top = scales.get(depth.kind, depth.white)
        if depth.most > top and (is_grey or depth.most - 255 > top):
            raise ValueError(f"values up to {depth.most:g}, more than {top:g}: set another bit_depth")
        if is_grey:
            return by_bands(image, "L", lambda band: to_bytes(np.asarray(band), top))
        if top != MAX_VALUE:
            values = all_bits(image, content)
            mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[len(values)]
            image = Image.merge(mode, [to_bytes(channel, top) for channel in values])
    if image.has_transparency_data:
        return by_bands(image, "RGB", on_white)
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def all_bits(image: Image.Image, content: bytes) -> np.ndarray:
    """The uint16 values (C, H, W) of a colour PNG, which Pillow does not read.

    Raises:
        ValueError: it is no PNG.
    """
    if image.format != "PNG":
        raise ValueError(f"a colour {image.format} of 16 bits with smaller values: convert it to PNG, or to 8 bits")
    import torch
    from torchvision.io import ImageReadMode, decode_png

    return decode_png(torch.frombuffer(bytearray(content), dtype=torch.uint8), ImageReadMode.UNCHANGED).numpy()


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


def to_bytes(values: np.ndarray, top: float) -> Image.Image:
    """Values (H, W) in [0, `top`] -> an image of 8 bits; larger ones are white."""
    if top == MAX_VALUE and np.issubdtype(values.dtype, np.integer):
        return Image.fromarray((values // 257).astype(np.uint8))
    return Image.fromarray(np.rint(np.minimum(values, top) * (255 / top)).astype(np.uint8))


def to_array(image: Image.Image, size: int, channels: int) -> np.ndarray:
    """The central square, resized with antialiasing (bicubic), uint8 (channels, size, size)."""
    mode = "RGB" if channels == 3 else "L"
    if image.mode != mode:
        image = image.convert(mode)
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    return np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)
