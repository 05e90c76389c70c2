"""One image file to pixels: every mode, bit depth and orientation."""

import numpy as np
import pytest
from PIL import Image

from genai.data.decoding import decode_image
from tests.data.photographs import RED, encoded, plain


def cmyk_jpeg() -> bytes:
    return encoded(plain().convert("CMYK"), "JPEG", quality=100)


def sixteen_bits() -> bytes:
    return encoded(Image.fromarray(np.full((8, 8), 128 * 257, np.uint16)))


def palette_with_transparency() -> bytes:
    image = plain().quantize(4)
    return encoded(image, transparency=image.getpixel((0, 0)))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (encoded(plain()), RED),
        (encoded(plain(), "BMP"), RED),
        (encoded(plain(), "WEBP", lossless=True), RED),
        (encoded(Image.new("L", (8, 8), 77)), (77, 77, 77)),
        (encoded(Image.new("1", (8, 8), 1)), (255, 255, 255)),
        (encoded(plain().quantize(4)), RED),
        (encoded(plain(), "GIF"), RED),
        (palette_with_transparency(), (255, 255, 255)),
        (encoded(Image.new("RGBA", (8, 8), (*RED, 0))), (255, 255, 255)),
        (encoded(Image.new("RGBA", (8, 8), (0, 0, 0, 128))), (127, 127, 127)),
        (encoded(Image.new("LA", (8, 8), (0, 128))), (127, 127, 127)),
        (cmyk_jpeg(), RED),
        (sixteen_bits(), (128, 128, 128)),
        (encoded(Image.fromarray(np.full((8, 8), 128 * 257, np.uint16)), "TIFF"), (128, 128, 128)),
    ],
    ids=[
        "rgb",
        "bmp",
        "webp",
        "grey",
        "bilevel",
        "palette",
        "gif",
        "clear-palette",
        "clear",
        "half",
        "grey-alpha",
        "cmyk",
        "16-bit",
        "16-bit-tiff",
    ],
)
def test_every_mode_converts(content: bytes, expected: tuple[int, int, int]) -> None:
    pixels = decode_image(content, 4, 3)
    assert pixels.shape == (3, 4, 4)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - np.array(expected)[:, None, None]).max() <= 3
    assert decode_image(content, 4, 1).shape == (1, 4, 4)


def test_the_central_square_is_kept() -> None:
    image = Image.new("RGB", (24, 8), "black")
    image.paste(RED, (8, 0, 16, 8))
    assert (decode_image(encoded(image), 8, 3) == np.array(RED)[:, None, None]).all()


def test_resizing_is_antialiased() -> None:
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(decode_image(encoded(Image.fromarray(stripes)), 8, 1)[0, 2:-2, 2:-2].astype(int) - 127).max() < 6


def test_exif_rotation_is_applied() -> None:
    image = Image.new("RGB", (8, 8), "black")
    image.paste("white", (0, 0, 8, 4))  # white above
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: white on the right
    pixels = decode_image(encoded(image, "JPEG", exif=exif, quality=100), 8, 1)[0]
    assert pixels[:, 6:].min() > 200
    assert pixels[:, :2].max() < 50
