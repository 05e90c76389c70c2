"""Pictures in a folder, a zip or a tar, one after the other. Archives are read in memory, never extracted."""

import io
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

from genai.errors import UserError

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
MAX_BYTES = 200 * 2**20  # of one picture
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, zlib.error, lzma.LZMAError)


class Picture(NamedTuple):
    """name: its path in the folder or archive, with /. content: the file, or empty with the reason in `problem`."""

    name: str
    content: bytes
    problem: str = ""


def names(source: Path) -> list[str]:
    """The pictures of a folder or archive, in the archive's order (a folder's: sorted).

    Raises:
        UserError: there are none; the archive is damaged, encrypted or has members that lie outside it.
    """
    found = list(dict.fromkeys(picture.name for picture in walk(source, with_content=False)))
    if not found:
        raise UserError(f"{source} has no pictures: put {', '.join(ENDINGS)} files into it")
    return found


def pictures(source: Path) -> Iterator[Picture]:
    """The pictures of `names` with their content, in the same order, read one at a time."""
    return walk(source, with_content=True)


def size_and_times(folder: Path) -> list[tuple[str, int, int]]:
    """[(name, bytes, time in ns), ...] of a folder's pictures, to notice a change."""
    stats = ((name, os.lstat(os.path.join(folder, name))) for name in folder_names(folder))
    return [(name, status.st_size, status.st_mtime_ns) for name, status in stats]


def is_archive(path: Path) -> bool:
    """Whether the name is that of a zip or tar."""
    return path.name.lower().endswith((".zip", *TARS))


def walk(source: Path, with_content: bool) -> Iterator[Picture]:
    """The pictures of a folder, zip or tar; without content, archives are checked all the same."""
    if source.is_dir():
        return walk_folder(source, with_content)
    if not is_archive(source):
        raise UserError(f"{source} is no folder, .zip or {', '.join(TARS)}: name one")
    return walk_zip(source, with_content) if source.suffix.lower() == ".zip" else walk_tar(source, with_content)


def walk_folder(folder: Path, with_content: bool) -> Iterator[Picture]:
    for name in folder_names(folder):
        if not with_content:
            yield Picture(name, b"")
            continue
        try:
            too_large = (folder / name).stat().st_size > MAX_BYTES
            yield refused(name) if too_large else Picture(name, (folder / name).read_bytes())
        except OSError as error:
            yield Picture(name, b"", error.strerror or str(error))


def folder_names(folder: Path) -> list[str]:
    """Paths of all pictures below a folder, relative to it, with /, sorted."""
    found = []
    for at, _, files in os.walk(folder):
        inside = "" if Path(at) == folder else Path(at).relative_to(folder).as_posix() + "/"
        found += [inside + file for file in files]
    return sorted(filter(is_picture, found))


def walk_zip(path: Path, with_content: bool) -> Iterator[Picture]:
    with damage_named(path), zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            plain = member.is_dir() or stat.S_IFMT(member.external_attr >> 16) in (0, stat.S_IFREG)
            check_member(path, member.filename, plain)
            if member.is_dir() or not is_picture(member.filename):
                continue
            if member.flag_bits & 1:
                raise UserError(f"{path} is encrypted: unpack it and name the folder")
            yield zip_picture(archive, member) if with_content else Picture(member.filename, b"")


def zip_picture(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Picture:
    if member.file_size > MAX_BYTES:
        return refused(member.filename)
    try:
        return Picture(member.filename, archive.read(member))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        return Picture(member.filename, b"", str(error))


def walk_tar(path: Path, with_content: bool) -> Iterator[Picture]:
    with damage_named(path), tarfile.open(path) as archive:
        for member in archive:
            check_member(path, member.name, member.isfile() or member.isdir())
            if not member.isfile() or not is_picture(member.name):
                continue
            if member.size > MAX_BYTES:
                yield refused(member.name)
                continue
            file = archive.extractfile(member) if with_content else None
            yield Picture(member.name, file.read() if file else b"")
        check_end(archive)


def check_end(archive: tarfile.TarFile) -> None:
    """tarfile takes a cut between two members for the end; a whole archive ends in zeros."""
    file = archive.fileobj
    if isinstance(file, io.BufferedReader):  # a compressed file notices by itself
        file.seek(archive.offset)
        if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
            raise tarfile.ReadError("unexpected end of data")


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turns what the archive libraries raise into one line."""
    try:
        yield
    except DAMAGE as error:
        raise UserError(f"{path} is damaged or truncated ({error}): copy or download it again") from None


def check_member(path: Path, name: str, plain: bool) -> None:
    """Raises UserError where a member lies outside the archive's folder, or is a link or device."""
    path_in = PureWindowsPath(name)  # knows both slashes, and drives
    if path_in.root or path_in.drive or ".." in path_in.parts:
        raise UserError(f"{path} has a member that escapes its folder, {name!r}: remake the archive without it")
    if not plain:
        raise UserError(f"{path} has a member that is a link or no plain file, {name!r}: remake the archive without it")


def is_picture(name: str) -> bool:
    """By its ending; what macOS adds is none."""
    file = name.rsplit("/", 1)[-1]
    return file.lower().endswith(ENDINGS) and not file.startswith("._") and "__MACOSX" not in name


def refused(name: str) -> Picture:
    return Picture(name, b"", f"larger than {MAX_BYTES // 2**20} MB")
