"""Sets of pictures with more than 8 bits a channel: one scale for the whole set, and a line or an option that names it."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genai.data import ImageFolder
from genai.errors import UserError
from tests.data.photographs import encoded, write

NUM = 12


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path / "cache"))


def deep_png(values: np.ndarray) -> bytes:
    """A PNG of 16 bits from values (H, W, C): grey, grey with alpha, RGB or RGBA. Pillow writes none in colour."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def noise(bits: int, channels: int) -> list[np.ndarray]:
    """uint16 (NUM, 8, 8, C) below 2**bits; an alpha channel is opaque, and one pixel white."""
    values = np.random.RandomState(bits).randint(0, 2**bits, (NUM, 8, 8, channels)).astype(np.uint16)
    values[:, 0, 0] = 2**bits - 1
    if channels in (2, 4):
        values[..., -1] = 2**bits - 1
    return list(values)


def folder(path: Path, pictures: list[bytes]) -> str:
    return str(write(path / "photos", {f"{i:02d}": content for i, content in enumerate(pictures)}))


@pytest.mark.parametrize("channels", [1, 2, 3, 4], ids=["grey", "grey-alpha", "rgb", "rgba"])
@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_the_range_of_a_set_is_full_whatever_its_depth(tmp_path: Path, bits: int, channels: int) -> None:
    entry = ImageFolder(folder(tmp_path, [deep_png(v) for v in noise(bits, channels)]), size=8).cache_entry()
    assert entry.images.max() == 255
    assert 115 < entry.images.mean() < 140
    notes = entry.meta["warnings"]
    assert notes == [] if bits == 16 else f"read as {bits} bits" in notes[0] and len(notes) == 1


@pytest.mark.parametrize("format", ["TIFF", "PNG"])
def test_pictures_of_a_set_keep_their_relative_brightness(tmp_path: Path, format: str) -> None:
    values = [np.full((8, 8), 65535 if i % 2 else 4000, np.uint16) for i in range(NUM)]
    images = (
        ImageFolder(folder(tmp_path, [encoded(Image.fromarray(v), format) for v in values]), size=8, channels=1)
        .cache_entry()
        .images
    )
    assert sorted(set(images.flatten().tolist())) == [15, 255]


def test_floats_of_a_set_keep_their_relative_brightness(tmp_path: Path) -> None:
    values = [np.full((8, 8), 200 if i % 2 else 1, np.float32) for i in range(NUM)]
    images = (
        ImageFolder(folder(tmp_path, [encoded(Image.fromarray(v), "TIFF") for v in values]), size=8, channels=1)
        .cache_entry()
        .images
    )
    assert sorted(set(images.flatten().tolist())) == [1, 200]


def test_bit_depth_names_the_depth(tmp_path: Path) -> None:
    source = folder(tmp_path, [deep_png(v) for v in noise(13, 1)])
    images = ImageFolder(source, size=8, bit_depth=13).cache_entry().images
    assert images.max() == 255
    assert ImageFolder(source, size=8, bit_depth=13).cache_entry().meta["warnings"] == []
    assert 60 < ImageFolder(source, size=8, bit_depth=14).cache_entry().images.mean() < 68
    with pytest.raises(UserError, match="more than 4095: set another bit_depth"):
        ImageFolder(source, size=8, bit_depth=12).prepare_data()


@pytest.mark.parametrize("depth", [0, 7, 17, -1])
def test_a_bit_depth_out_of_range_is_refused(depth: int) -> None:
    with pytest.raises(UserError, match="bit_depth"):
        ImageFolder("photos", bit_depth=depth)


@pytest.mark.parametrize("turn", [lambda a: a, lambda a: a[::-1, ::-1]], ids=["upright", "turned"])
def test_the_orientation_of_deep_pictures_is_applied(tmp_path: Path, turn: Callable[[np.ndarray], np.ndarray]) -> None:
    ramp = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    upright = turn(ramp)[0, 0] == 0
    exif = Image.Exif()
    exif[0x0112] = 1 if upright else 3
    content = encoded(Image.fromarray(np.ascontiguousarray(turn(ramp))), "PNG", exif=exif)
    images = ImageFolder(folder(tmp_path, [content] * NUM), size=8, channels=1).cache_entry().images
    assert (images[0, 0] == ramp // 257).all()
