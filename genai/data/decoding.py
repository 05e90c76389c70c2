"""One image file -> pixels: any mode and bit depth, EXIF rotation, central square, antialiased resize."""

import io

import numpy as np
from PIL import Image, ImageOps

MAX_PIXELS = 89_000_000  # of one image; more may be a decompression bomb


def decode_image(content: bytes, size: int, channels: int) -> np.ndarray:
    """An image file -> its central square, uint8 (channels, size, size).

    Transparent images are laid on white, EXIF rotations are applied.

    Raises:
        ValueError, OSError and whatever else Pillow raises: the file is damaged, or has more than MAX_PIXELS pixels.
    """
    with Image.open(io.BytesIO(content)) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width}x{image.height} are too many pixels")
        if image.mode in ("RGB", "L"):
            image.draft(image.mode, (2 * size, 2 * size))  # JPEG decodes large images at 1/2, 1/4 or 1/8
        ImageOps.exif_transpose(image, in_place=True)
        return to_array(flatten(image), size, channels)


def flatten(image: Image.Image) -> Image.Image:
    """Any mode -> L or RGB: transparency on white, 16 bits reduced to 8."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def to_array(image: Image.Image, size: int, channels: int) -> np.ndarray:
    """The central square, resized with antialiasing (bicubic), uint8 (channels, size, size)."""
    mode = "RGB" if channels == 3 else "L"
    if image.mode != mode:
        image = image.convert(mode)
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    return np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)
