"""The pictures of a folder, a zip or a tar, one after the other. Archives are read in memory, never extracted."""

import io
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

from genai.errors import UserError

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
SYSTEM_FOLDERS = (
    "__MACOSX",
    "@eaDir",
    "#recycle",
    "$RECYCLE.BIN",
    "System Volume Information",
    "lost+found",
)  # and hidden ones
MAX_BYTES = 200 * 2**20  # of one picture
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, zlib.error, lzma.LZMAError)


class Picture(NamedTuple):
    """A picture file.

    name: its path inside the folder or archive, with /.
    content: its bytes; empty if they could not be read.
    problem: why they could not be read.
    """

    name: str
    content: bytes
    problem: str = ""


def names(source: Path) -> list[str]:
    """The names of the pictures, in an archive's order or sorted for a folder.

    Hidden files and folders are not listed, nor those that systems add (SYSTEM_FOLDERS).

    Raises:
        UserError: there are none; or the archive is damaged, encrypted or has members outside its own folder.
    """
    found = list(dict.fromkeys(picture.name for picture in walk(source, with_content=False)))
    if not found:
        raise UserError(f"{source} has no pictures: put {', '.join(ENDINGS)} files into it")
    return found


def pictures(source: Path) -> Iterator[Picture]:
    """The pictures of `names` with their content, in the same order, read one at a time."""
    return walk(source, with_content=True)


def size_and_times(folder: Path) -> list[tuple[str, int, int]]:
    """[(name, bytes, time in ns), ...] of a folder's pictures, to detect a change."""
    stats = ((name, os.stat(os.path.join(folder, name))) for name in folder_names(folder))
    return [(name, status.st_size, status.st_mtime_ns) for name, status in stats]


def is_archive(path: Path) -> bool:
    """Whether the file name is one of a zip or tar."""
    return path.name.lower().endswith((".zip", *TARS))


def walk(source: Path, with_content: bool) -> Iterator[Picture]:
    """The pictures of a folder, zip or tar; archives are checked even if the content is not read."""
    if source.is_dir():
        return walk_folder(source, with_content)
    if not is_archive(source):
        raise UserError(f"{source} is not a folder, .zip or {', '.join(TARS)}: name one")
    return walk_zip(source, with_content) if source.suffix.lower() == ".zip" else walk_tar(source, with_content)


def walk_folder(folder: Path, with_content: bool) -> Iterator[Picture]:
    for name in folder_names(folder):
        if not with_content:
            yield Picture(name, b"")
            continue
        try:
            is_too_large = (folder / name).stat().st_size > MAX_BYTES
            yield too_large(name) if is_too_large else Picture(name, (folder / name).read_bytes())
        except OSError as error:
            yield Picture(name, b"", error.strerror or str(error))


def folder_names(folder: Path) -> list[str]:
    """Paths of all pictures below a folder, relative to it, with /, sorted. Links to folders are followed, each folder once."""
    found, visited = [], {os.path.realpath(folder)}
    for at, folders, files in os.walk(folder, followlinks=True):
        inside = "" if Path(at) == folder else Path(at).relative_to(folder).as_posix() + "/"
        found += [inside + file for file in files if is_picture(inside + file) and os.path.isfile(os.path.join(at, file))]
        folders[:] = [name for name in sorted(folders) if not is_hidden(name) and is_new(os.path.join(at, name), visited)]
    return sorted(found)


def is_new(folder: str, visited: set[str]) -> bool:
    """Whether `folder` was not visited yet; it is from now on."""
    path = os.path.realpath(folder)
    if path in visited:
        return False
    visited.add(path)
    return True


def walk_zip(path: Path, with_content: bool) -> Iterator[Picture]:
    with naming_damage(path), zipfile.ZipFile(path) as archive:
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
        return too_large(member.filename)
    try:
        return Picture(member.filename, archive.read(member))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        return Picture(member.filename, b"", str(error))


def walk_tar(path: Path, with_content: bool) -> Iterator[Picture]:
    with naming_damage(path), tarfile.open(path) as archive:
        for member in archive:
            check_member(path, member.name, member.isfile() or member.isdir())
            if not member.isfile() or not is_picture(member.name):
                continue
            if member.size > MAX_BYTES:
                yield too_large(member.name)
                continue
            file = archive.extractfile(member) if with_content else None
            yield Picture(member.name, file.read() if file else b"")
        check_end(archive)


def check_end(archive: tarfile.TarFile) -> None:
    """Raise ReadError for a tar cut between two members, which tarfile takes for the end; a whole one ends in zeros."""
    file = archive.fileobj
    if isinstance(file, io.BufferedReader):  # a compressed file detects the cut by itself
        file.seek(archive.offset)
        if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
            raise tarfile.ReadError("unexpected end of data")


@contextmanager
def naming_damage(path: Path) -> Iterator[None]:
    """Turn what the archive libraries raise into a UserError that names the file."""
    try:
        yield
    except DAMAGE as error:
        raise UserError(f"{path} is damaged or truncated ({error}): copy or download it again") from None


def check_member(path: Path, name: str, plain: bool) -> None:
    """Raise UserError for a member outside the archive's own folder, a link or a device."""
    path_in = PureWindowsPath(name)  # understands both slashes, and drives
    if path_in.root or path_in.drive or ".." in path_in.parts:
        raise UserError(f"{path} has a member that escapes its folder, {name!r}: remake the archive without it")
    if not plain:
        raise UserError(f"{path} has a member that is a link or not a plain file, {name!r}: remake the archive without it")


def is_picture(name: str) -> bool:
    """Whether the path has a picture's ending, and is neither hidden nor in a hidden or system folder."""
    return name.lower().endswith(ENDINGS) and not any(map(is_hidden, PurePosixPath(name).parts))


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or a folder that a system adds."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


def too_large(name: str) -> Picture:
    return Picture(name, b"", f"larger than {MAX_BYTES // 2**20} MB")
