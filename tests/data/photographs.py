"""Files of pictures, whole and broken, in folders and archives."""

import io
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

from PIL import Image

RED = (200, 30, 60)


def encoded(image: Image.Image, format: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def plain(color=RED, side: int = 8) -> Image.Image:
    return Image.new("RGB", (side, side), color)


def utk_files(num: int = 20) -> dict[str, bytes]:
    """Pictures under UTKFace's names, each of its own grey; the label of the i-th follows from i."""
    return {
        f"UTKFace/{i * 4 + 1}_{i % 2}_{i % 5}_201701{i:02d}.jpg.chip.jpg": encoded(plain((i * 10,) * 3), "JPEG", quality=100)
        for i in range(num)
    }


def write(path: Path, files: dict[str, bytes]) -> Path:
    """`files` as a folder, zip or tar, by the ending of the path."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    elif path.suffix in (".gz", ".tar"):
        with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    else:
        for name, content in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    return path


def bomb() -> bytes:
    """A PNG that says it has 20,000 x 20,000 pixels."""
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + encoded(plain())[33:]


BROKEN = {
    "empty.jpg": b"",
    "text.jpg": b"this is no picture",
    "cut.jpg": encoded(Image.effect_noise((64, 64), 90), "JPEG")[:-600],
    "cut.png": encoded(Image.effect_noise((64, 64), 90))[:-900],
    "bomb.png": bomb(),
}
