"""Inputs made to fill the memory or to never end: each is refused or skipped with a reason, in seconds and bounded memory."""

import contextlib
import gzip
import io
import os
import struct
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from genai.cli.options.images import read_picture
from genai.cli.options.prompts import read_prompts
from genai.cli.verbs.filmstrip import read_grid
from genai.data import ImageFolder, archives, cache, mnist
from genai.data.archives import list_files, pictures
from genai.data.cache import Recipe, open_or_build
from genai.data.mnist import read_idx
from genai.data.photos import Decoder
from genai.errors import UserError
from genai.files import read_bounded
from genai.training.arguments import check_config
from tests.data.photographs import encoded, plain, write

SECONDS = 20  # of processor time; most take less than one
BYTES = 10**9
CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def peak() -> int:
    """The largest resident memory of this process since the peak was reset, in bytes; 0 where the system does not say."""
    text = STATUS.read_text() if STATUS.is_file() else "VmHWM: 0 kB"
    return int(text.split("VmHWM:")[1].split()[0]) * 1024


@pytest.fixture(autouse=True)
def bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test stays within SECONDS and BYTES, with a cache of its own."""
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path / "cache"))
    if CLEAR.exists():
        CLEAR.write_text("5")  # resets the peak
    before, started = peak(), time.process_time()
    yield
    assert time.process_time() - started < SECONDS
    assert peak() - before < BYTES


def one_line(error: pytest.ExceptionInfo[UserError], *parts: str) -> None:
    """The message is one line that has the parts."""
    assert "\n" not in str(error.value)
    assert all(part in str(error.value) for part in parts), str(error.value)


# -- archives ----------------------------------------------------------------------------------------------------------------


def zip_of(path: Path, members: dict[str, int]) -> Path:
    """A zip of pictures full of zeros, each with a number of MB."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, size in members.items():
            with archive.open(name, "w", force_zip64=True) as file:
                for _ in range(size):
                    file.write(bytes(2**20))
    return path


def test_many_large_pictures_in_a_small_zip(tmp_path: Path) -> None:
    content = zip_of(tmp_path / "one.zip", {"0.bmp": 190}).read_bytes()
    path = tmp_path / "photos.zip"
    repeat_member(content, path, 24)
    with pytest.raises(UserError) as error:
        list_files(path)
    one_line(error, "photos.zip", "unpacks to 4.8 GB or more", "unpack it and name the folder")


def repeat_member(content: bytes, path: Path, num: int) -> None:
    """Write a zip that has the member of another one `num` times, without compressing it again."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        [member] = archive.infolist()
    start = member.header_offset + 30 + struct.unpack("<H", content[26:28])[0] + struct.unpack("<H", content[28:30])[0]
    data = content[start : start + member.compress_size]
    locals_, central = b"", b""
    for i in range(num):
        name = f"{i:02d}.bmp".encode()
        about = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, member.CRC, len(data), member.file_size, len(name), 0)
        central += b"PK\1\2" + struct.pack("<H", 20) + about + struct.pack("<HHHII", 0, 0, 0, 0, len(locals_)) + name
        locals_ += b"PK\3\4" + about + name + data
    end = struct.pack("<HHHHIIH", 0, 0, num, num, len(central), len(locals_), 0)
    path.write_bytes(locals_ + central + b"PK\5\6" + end)


@pytest.mark.slow
def test_a_few_large_pictures_are_read_one_after_the_other(tmp_path: Path) -> None:
    """Five of 190 MB: too few to be a bomb, and more than the memory that they may take."""
    content = zip_of(tmp_path / "one.zip", {"0.bmp": 190}).read_bytes()
    path = tmp_path / "photos.zip"
    repeat_member(content, path, 5)
    with pytest.raises(UserError) as error:
        ImageFolder(str(path), size=8).prepare_data()
    one_line(error, "no readable image", "damaged, or not a picture")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["RGBA", *(pytest.param(mode, marks=pytest.mark.long) for mode in ("RGB", "P", "I;16", "F"))])
def test_a_picture_of_as_many_pixels_as_are_allowed(mode: str) -> None:
    pixels = Image.new("L" if mode == "P" else "I;16" if mode == "I;16" else mode, (9400, 9400))
    if mode == "P":
        pixels.putpalette([0, 0, 0, 255, 255, 255])
        pixels.info["transparency"] = 0
    packed = encoded(pixels, "TIFF", compression="tiff_deflate") if mode == "F" else encoded(pixels, compress_level=1)
    del pixels
    if CLEAR.exists():
        CLEAR.write_text("5")
    before = peak()
    result = Decoder(8, 3)(archives.Picture("large", packed))
    assert not isinstance(result, str), result
    assert peak() - before < BYTES


def test_an_archive_inside_of_an_archive_is_no_picture(tmp_path: Path) -> None:
    inner = zip_of(tmp_path / "inner.zip", {"0.png": 20}).read_bytes()
    files = {f"{i}.zip": inner for i in range(50)} | {"x.png": encoded(plain())}
    assert list_files(write(tmp_path / "outer.zip", files)).names == ["x.png"]


def test_thousands_of_members(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for i in range(3_000):
            archive.writestr(f"{i}.png", b"")
    assert len(list_files(tmp_path / "many.zip").names) == 3_000
    with tarfile.open(tmp_path / "many.tar", "w") as tar:
        for i in range(3_000):
            tar.addfile(tarfile.TarInfo(f"{i}.png"))
    assert len(list_files(tmp_path / "many.tar").names) == 3_000


@pytest.mark.parametrize("size", [2**63 - 1, 2**40, 300 * 2**20])
def test_a_zip_that_says_that_its_member_is_huge(size: int, tmp_path: Path) -> None:
    path = zip_of(tmp_path / "photos.zip", {"0.png": 1})
    content = path.read_bytes()
    at = content.rindex(b"PK\1\2")
    path.write_bytes(content[: at + 24] + struct.pack("<I", min(size, 2**32 - 2)) + content[at + 28 :])
    (picture,) = pictures(path)
    assert "larger than 200 MB" in picture.problem


def zeros_gz(path: Path, head: bytes, num_mb: int) -> Path:
    """A gzip file of `head` and zeros."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    with path.open("wb") as file:
        file.write(packer.compress(head))
        for _ in range(num_mb):
            file.write(packer.compress(bytes(2**20)))
        file.write(packer.flush())
    return path


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """The header of a tar's member."""
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("size", [2**31, 2**40])
def test_a_tar_that_unpacks_without_end(size: int, tmp_path: Path) -> None:
    path = zeros_gz(tmp_path / "UTKFace.tar.gz", header("x.png", size), 64)
    with pytest.raises(UserError) as error:
        list_files(path)
    one_line(error, "UTKFace.tar.gz", "unpacks to", "times its own size")


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE], ids=["GNU", "PAX", "global"])
@pytest.mark.parametrize("ending", [".tar", ".tar.gz"])
def test_a_tar_with_a_name_that_fills_the_memory(kind: bytes, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"photos{ending}"
    content = header("x.png", 2**33, kind)
    path.write_bytes(content) if ending == ".tar" else zeros_gz(path, content, 16)
    with pytest.raises(UserError) as error:
        list_files(path)
    one_line(error, path.name, "damaged")


MEMBERS = {
    "absolute": ("/etc/x.png", tarfile.REGTYPE),
    "above": ("../x.png", tarfile.REGTYPE),
    "link": ("x.png", tarfile.SYMTYPE),
    "hard link": ("x.png", tarfile.LNKTYPE),
    "device": ("x.png", tarfile.CHRTYPE),
    "pipe": ("x.png", tarfile.FIFOTYPE),
}


@pytest.mark.parametrize(("name", "kind"), MEMBERS.values(), ids=MEMBERS)
def test_members_that_are_no_files_of_the_archive(name: str, kind: bytes, tmp_path: Path) -> None:
    path = zeros_gz(tmp_path / "UTKFace.tar.gz", header(name, 0, kind), 1)
    with pytest.raises(UserError) as error:
        list_files(path)
    one_line(error, "UTKFace.tar.gz", name)
    assert [child.name for child in tmp_path.iterdir()] == ["UTKFace.tar.gz"]


# -- files that are no files -------------------------------------------------------------------------------------------------


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.mkdir()


READERS: dict[str, Callable[[str], Any]] = {
    "picture": lambda name: read_picture(name, 8, 1, "image", "a file"),
    "prompts": lambda name: read_prompts(None, name),
    "config": check_config,
    "grid of samples": lambda name: read_grid(Path(name)),
    "archive": lambda name: list_files(Path(name)),
}


@pytest.mark.parametrize("make", [pipe, endless, folder])
@pytest.mark.parametrize("reader", READERS)
def test_what_never_ends_is_refused_at_once(reader: str, make: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / ("x.zip" if reader == "archive" else "x.png")
    make(path)
    with pytest.raises(UserError) as error:
        READERS[reader](str(path))
    one_line(error, path.name)


def test_pictures_of_a_folder_that_never_end_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/x.png").write_bytes(encoded(plain()))
    for make in (pipe, endless, folder):
        make(tmp_path / f"photos/{make.__name__}.png")
    assert list_files(tmp_path / "photos").names == ["x.png"]


def test_a_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(100))
    assert read_bounded(tmp_path / "x", 100) == bytes(100)
    with pytest.raises(UserError, match="has more than"):
        read_bounded(tmp_path / "x", 99)


# -- pictures ----------------------------------------------------------------------------------------------------------------


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_with(*chunks: bytes) -> bytes:
    """A PNG of 8x8 pixels with more chunks behind its header."""
    content = encoded(plain())
    return content[:33] + b"".join(chunks) + content[33:]


BOMBS = {
    "text that unpacks to 256 MB": png_with(chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**28)))),
    "long text": png_with(chunk(b"tEXt", b"Comment\0" + b"x" * 10_000_000)),
    "much text": png_with(*[chunk(b"iTXt", b"C\0\1\0\0\0" + zlib.compress(bytes(900_000)))] * 200),
    "profile that unpacks": png_with(chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(2**28)))),
    "chunk without end": encoded(plain())[:33] + struct.pack(">I", 2**31 - 1) + b"tEXt" + b"x" * 100,
    "pixels": encoded(plain())[:16] + struct.pack(">II", 60_000, 60_000) + encoded(plain())[24:],
    "TIFF with a tag of 4 GB": b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHII", 0x0100, 4, 2**30, 100) + bytes(4),
}


@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS)
def test_a_picture_that_is_a_bomb_is_decoded_or_skipped(content: bytes, tmp_path: Path) -> None:
    result = Decoder(8, 3)(archives.Picture("x.png", content))
    assert isinstance(result, np.ndarray) or "\n" not in result
    (tmp_path / "x.png").write_bytes(content)
    with contextlib.suppress(UserError):
        read_picture(str(tmp_path / "x.png"), 8, 3, "image", "a file")


def test_text_of_a_picture_that_is_short_is_no_bomb() -> None:
    about = PngInfo()
    about.add_itxt("Comment", "x" * 1000)
    assert isinstance(Decoder(8, 3)(archives.Picture("x.png", encoded(plain(), pnginfo=about))), np.ndarray)


# -- arrays ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2**31, 28, 28), (60_000, 28, 28), (2**32 - 1, 2**32 - 1, 2**32 - 1)])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_files_of_huge_shapes(shape: tuple[int, int, int], ending: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(mnist, "MAX_BYTES", 2**24)
    head = bytes([0, 0, 8, 3]) + struct.pack(">3I", *shape)
    path = tmp_path / f"train-images-idx3-ubyte{ending}"
    zeros_gz(path, head, 20) if ending else path.write_bytes(head + bytes(1000))
    with pytest.raises(UserError) as error:
        read_idx(path, 3)
    one_line(error, path.name, "truncated or too long")


def test_idx_files_that_are_whole(tmp_path: Path) -> None:
    content = bytes([0, 0, 8, 3]) + struct.pack(">3I", 2, 28, 28) + bytes(range(196)) * 8
    (tmp_path / "x").write_bytes(content)
    (tmp_path / "x.gz").write_bytes(gzip.compress(content))
    for name in ("x", "x.gz"):
        assert read_idx(tmp_path / name, 3).tobytes() == content[16:]


def npy(shape: tuple[int, ...], dtype: str = "|u1", version: int = 1) -> bytes:
    """The header of an .npy file."""
    text = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(text)) + text


ARRAYS = {
    "empty": b"",
    "torn": npy((5, 1, 2, 2))[:30],
    "huge": npy((2**40, 1, 2, 2)),
    "overflow": npy((2**62, 4, 2, 2)),
    "objects": npy((5, 1, 2, 2), "|O") + b"cos\nsystem\n(S'touch owned'\ntR.",
    "cut": npy((5, 1, 2, 2)) + bytes(3),
    "text": b"not an array",
    "long header": b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b"x",
}


@pytest.mark.parametrize("file", ["images.npy", "labels.npy", "meta.json"])
@pytest.mark.parametrize("content", ARRAYS.values(), ids=ARRAYS)
def test_a_damaged_cache_is_built_again(content: bytes, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def build(writer: cache.Writer) -> None:
        writer.start(5, (1, 2, 2))[:] = 7
        writer.finish(np.arange(5), {"train": 3, "val": 1, "test": 1})

    recipe = Recipe({}, "source", build)
    open_or_build("toy", recipe)
    [entry] = [path for path in cache.decoded_folder().iterdir() if path.is_dir()]
    (entry / file).write_bytes(content)
    found = open_or_build("toy", recipe)
    assert (found.images == 7).all()
    assert found.labels.tolist() == [0, 1, 2, 3, 4]
    assert not Path("owned").exists()


# -- YAML of the user's own --------------------------------------------------------------------------------------------------

LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10))


@pytest.mark.parametrize(
    "text",
    [LAUGHS, "model: &m {init_args: *m}\n", "model: " + "[" * 100_000, "x: '" + "x" * 5_000_000 + "'", "{a: " * 50_000],
    ids=["laughs", "itself", "deep", "long", "deep objects"],
)
def test_a_config_of_the_user_is_bounded_too(text: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UserError) as error:
        check_config(str(tmp_path / "mine.yaml"))
    one_line(error, "mine.yaml")


def test_aliases_that_stay_small_are_allowed(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("data: &d {init_args: {batch_size: 2}}\nmodel: {init_args: {x: *d}}\nday: 2024-01-01\n")
    check_config(str(tmp_path / "mine.yaml"))
    assert yaml.safe_load((tmp_path / "mine.yaml").read_text())["model"]["init_args"]["x"]["init_args"]["batch_size"] == 2
