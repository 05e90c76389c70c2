"""A generator of odd picture files, each with the grey value it should decode to, or the reason why it cannot be read."""

import io
import struct
from typing import NamedTuple

import numpy as np
from PIL import Image

from tests.data.photographs import encoded

GREY = 128


class Odd(NamedTuple):
    """A file: its content and the value of its pixels, or a part of the message if it cannot be read."""

    content: bytes
    expected: int | str


def filled(value: float, dtype: type, side: int = 8, format: str = "TIFF") -> bytes:
    """A picture of one value, except for one pixel of 0."""
    values = np.full((side, side), value, dtype)
    values[0, 0] = 0
    return encoded(Image.fromarray(values), format)


def in_mode(mode: str, format: str, **options: object) -> bytes:
    return encoded(Image.new("L", (8, 8), GREY).convert(mode), format, **options)


def frames(format: str) -> bytes:
    """An animation whose first frame is grey and whose second is white."""
    return encoded(Image.new("L", (8, 8), GREY), format, save_all=True, append_images=[Image.new("L", (8, 8), 255)])


def heic() -> bytes:
    return struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"heic", 0, b"mif1", b"heic") + bytes(200)


def with_trailing(content: bytes) -> bytes:
    return content + b"\r\n<!-- appended by a web server -->"


def eps() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "EPS")
    return file.getvalue()


PICTURES = {
    # values
    "16-bit.png": Odd(filled(GREY * 257, np.uint16, format="PNG"), GREY),
    "12-bit.png": Odd(filled(GREY / 255 * 4095, np.uint16, format="PNG"), GREY),
    "12-bit.tif": Odd(filled(GREY / 255 * 4095, np.uint16), GREY),
    "12-bit-white.png": Odd(filled(4095, np.uint16, format="PNG"), 255),
    "32-bit.tif": Odd(filled(GREY * 257, np.int32), GREY),
    "float-unit.tif": Odd(filled(GREY / 255, np.float32), GREY),
    "float-255.tif": Odd(filled(GREY, np.float32), GREY),
    "float-65535.tif": Odd(filled(GREY * 257, np.float32), GREY),
    "float-signed.tif": Odd(filled(-0.5, np.float32), "values from -0.5 to 0"),
    "float-nan.tif": Odd(filled(np.nan, np.float32), "values from nan"),
    "float-infinite.tif": Odd(filled(np.inf, np.float32), "to inf"),
    "float-large.tif": Odd(filled(1e6, np.float32), "convert it to 0..255"),
    "negative.tif": Odd(filled(-1000, np.int32), "values from -1000 to 0"),
    "black.tif": Odd(filled(0, np.float32), 0),
    # modes and formats
    "bilevel.pbm": Odd(encoded(Image.new("1", (8, 8), 1), "PPM"), 255),
    "ascii.pgm": Odd(b"P2\n# by hand\n2 2\n255\n128 128\n128 128\n", GREY),
    "binary.pgm": Odd(in_mode("L", "PPM"), GREY),
    "ycbcr.jfif": Odd(in_mode("YCbCr", "JPEG", quality=100), GREY),
    "progressive.jpe": Odd(in_mode("RGB", "JPEG", quality=100, progressive=True), GREY),
    "cmyk.tif": Odd(in_mode("CMYK", "TIFF"), GREY),
    "lab.tif": Odd(encoded(Image.new("LAB", (8, 8), (255, 128, 128)), "TIFF"), 255),
    "palette.pcx": Odd(in_mode("P", "PCX"), GREY),
    "grey.tga": Odd(in_mode("L", "TGA"), GREY),
    "rgb.sgi": Odd(in_mode("RGB", "SGI"), GREY),
    "rgb.qoi": Odd(in_mode("RGB", "QOI"), GREY),
    "rgb.dds": Odd(in_mode("RGB", "DDS"), GREY),
    "jpeg-2000.jp2": Odd(in_mode("RGB", "JPEG2000"), GREY),
    "icon.ico": Odd(encoded(Image.new("RGB", (16, 16), (GREY,) * 3), "ICO"), GREY),
    "opaque.webp": Odd(in_mode("RGBA", "WEBP", lossless=True), GREY),
    "animated.gif": Odd(frames("GIF"), GREY),
    "animated.png": Odd(frames("PNG"), GREY),
    "pages.tif": Odd(frames("TIFF"), GREY),
    "trailing.jpg": Odd(with_trailing(in_mode("L", "JPEG", quality=100)), GREY),
    # sizes
    "pixel.png": Odd(encoded(Image.new("L", (1, 1), GREY)), GREY),
    "line.png": Odd(encoded(Image.new("L", (3000, 1), GREY)), GREY),
    "column.png": Odd(encoded(Image.new("L", (1, 3000), GREY)), GREY),
    "large.png": Odd(encoded(Image.new("L", (2500, 2500), GREY)), GREY),
    # the ending is another
    "jpeg.png": Odd(in_mode("L", "JPEG", quality=100), GREY),
    "webp.jpg": Odd(in_mode("RGB", "WEBP", lossless=True), GREY),
    "heic.jpg": Odd(heic(), "pip install pillow-heif"),
    "page.jpg": Odd(b"<!DOCTYPE html><html>404 Not Found</html>", "not a picture"),
    "pointer.png": Odd(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "not a picture"),
    "vector.jpg": Odd(b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not a picture"),
    "script.jpg": Odd(eps(), "not a picture"),
    "zeros.jpg": Odd(bytes(5000), "not a picture"),
    "empty.png": Odd(b"", "empty file"),
}
