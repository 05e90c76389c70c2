"""The pictures of a folder, a zip or a tar, one after the other. Archives are read in memory, never extracted."""

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any, NamedTuple

from genai.data.file_types import COMMON, HEAD_BYTES, describe_ignored, ending_of, has_picture_ending, is_picture
from genai.errors import UserError

TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
SYSTEM_NAMES = (  # of files and folders, besides hidden ones
    "__MACOSX",
    "@eaDir",
    "#recycle",
    "$RECYCLE.BIN",
    "System Volume Information",
    "lost+found",
    "Thumbs.db",
    "desktop.ini",
)
MAX_BYTES = 200 * 2**20  # of one picture
MAX_RATIO = 100  # of the unpacked size of an archive to its own, where it is more than MAX_UNPACKED bytes
MAX_UNPACKED = 2**30
COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}  # by the first bytes
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, zlib.error, lzma.LZMAError)


class Picture(NamedTuple):
    """A file of a folder or archive.

    name: its path inside the folder or archive, with /.
    content: its bytes; empty if they could not be read.
    problem: why they could not be read.
    is_picture: whether its ending or its first bytes are those of a picture, see `file_types`.
    """

    name: str
    content: bytes
    problem: str = ""
    is_picture: bool = True


class Listing(NamedTuple):
    """The files of a folder or archive.

    names: of the pictures, in an archive's order or sorted for a folder.
    ignored: the number of other files by their ending, see `file_types.describe_ignored`.
    """

    names: list[str]
    ignored: dict[str, int]


def list_files(source: Path) -> Listing:
    """The pictures of a source and the number of its other files.

    Hidden files and folders are left out, and so are those that systems add (SYSTEM_NAMES).

    Raises:
        UserError: there are no pictures; or the archive is damaged, encrypted or has members outside its own folder.
    """
    found: dict[str, bool] = {file.name: file.is_picture for file in walk(source, with_content=False)}
    names = [name for name, is_picture in found.items() if is_picture]
    ignored = dict(Counter(ending_of(name) for name, is_picture in found.items() if not is_picture))
    if not names:
        others = f" (ignored {describe_ignored(ignored)})" if ignored else ""
        raise UserError(f"{source} has no pictures{others}: put {', '.join(COMMON)} files into it")
    return Listing(names, ignored)


def pictures(source: Path) -> Iterator[Picture]:
    """The pictures of `list_files` with their content, in the same order, read one at a time."""
    return (file for file in walk(source, with_content=True) if file.is_picture)


def size_and_times(folder: Path) -> list[tuple[str, int, int]]:
    """[(name, bytes, time in ns), ...] of a folder's files, to detect a change."""
    stats = ((name, os.stat(os.path.join(folder, name))) for name in folder_names(folder))
    return [(name, status.st_size, status.st_mtime_ns) for name, status in stats]


def is_archive(path: Path) -> bool:
    """Whether the file name is one of a zip or tar."""
    return path.name.lower().endswith((".zip", *TARS))


def walk(source: Path, with_content: bool) -> Iterator[Picture]:
    """The files of a folder, zip or tar; archives are checked even if the content is not read."""
    if source.is_dir():
        return walk_folder(source, with_content)
    if not is_archive(source) or not source.is_file():
        raise UserError(f"{source} is not a folder, .zip or {', '.join(TARS)}: name one")
    return walk_zip(source, with_content) if source.suffix.lower() == ".zip" else walk_tar(source, with_content)


def walk_folder(folder: Path, with_content: bool) -> Iterator[Picture]:
    for name in folder_names(folder):
        try:
            with open(os.path.join(folder, name), "rb") as file:
                size = os.fstat(file.fileno()).st_size
                yield read_file(name, size, file, with_content)
        except OSError as error:
            yield Picture(name, b"", error.strerror or str(error), has_picture_ending(name))


def folder_names(folder: Path) -> list[str]:
    """Paths of all regular files below a folder, relative to it, with /, sorted; no hidden ones.

    Links to folders are followed, each folder once; pipes, sockets and devices are left out.
    """
    found, visited = [], {os.path.realpath(folder)}
    for at, folders, files in os.walk(folder, followlinks=True):
        inside = "" if Path(at) == folder else Path(at).relative_to(folder).as_posix() + "/"
        found += [inside + file for file in files if not is_hidden(file) and os.path.isfile(os.path.join(at, file))]
        folders[:] = [name for name in sorted(folders) if not is_hidden(name) and is_new(os.path.join(at, name), visited)]
    return sorted(found)


def read_file(name: str, size: int, file: IO[bytes], with_content: bool) -> Picture:
    """A file from its open stream; the first bytes are read if the ending says nothing, the rest `with_content`."""
    head = b""
    if not has_picture_ending(name):
        head = file.read(HEAD_BYTES)
        if not is_picture(name, head):
            return Picture(name, b"", is_picture=False)
    if not with_content:
        return Picture(name, b"")
    return too_large(name) if size > MAX_BYTES else Picture(name, head + file.read())


def is_new(folder: str, visited: set[str]) -> bool:
    """Whether `folder` was not visited yet; it is from now on."""
    path = os.path.realpath(folder)
    if path in visited:
        return False
    visited.add(path)
    return True


def walk_zip(path: Path, with_content: bool) -> Iterator[Picture]:
    with naming_damage(path), zipfile.ZipFile(path) as archive:
        check_unpacked(path, sum(member.file_size for member in archive.infolist() if member.file_size <= MAX_BYTES))
        for member in archive.infolist():
            member.filename = member.filename.replace("\\", "/")  # of some Windows programs
            plain = member.is_dir() or stat.S_IFMT(member.external_attr >> 16) in (0, stat.S_IFREG)
            check_member(path, member.filename, plain)
            if member.is_dir() or is_in_hidden(member.filename):
                continue
            if member.flag_bits & 1:
                raise UserError(f"{path} is encrypted: unpack it and name the folder")
            yield zip_member(archive, member, with_content)


def zip_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, with_content: bool) -> Picture:
    name = member.filename
    if not with_content and has_picture_ending(name):
        return Picture(name, b"")
    try:
        with archive.open(member) as file:
            return read_file(name, member.file_size, file, with_content)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        return Picture(name, b"", str(error), has_picture_ending(name))


def walk_tar(path: Path, with_content: bool) -> Iterator[Picture]:
    with naming_damage(path), open_tar(path) as archive:
        for member in archive:
            check_unpacked(path, member.offset_data + member.size)
            check_member(path, member.name, member.isfile() or member.isdir())
            if not member.isfile() or is_in_hidden(member.name):
                continue
            file = archive.extractfile(member)
            assert file is not None  # of a regular file there is one
            yield read_file(member.name, member.size, file, with_content)
        check_end(archive)


@contextmanager
def open_tar(path: Path) -> Iterator[tarfile.TarFile]:
    """A tar, compressed or not; no header of it is read into memory if it says that it is larger than a picture may be."""
    with path.open("rb") as file:
        head = file.read(max(map(len, COMPRESSED)))
    opener: Any = next((opener for start, opener in COMPRESSED.items() if head.startswith(start)), open)
    with opener(path, "rb") as file, tarfile.open(fileobj=SmallReads(file), mode="r:") as archive:
        yield archive


class SmallReads(io.BufferedIOBase):
    """A stream that is read in pieces of at most MAX_BYTES: tarfile reads the long names and comments of a tar at once."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= MAX_BYTES:
            raise tarfile.ReadError("a header is too large")
        return self.file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()


def check_unpacked(path: Path, size: int) -> None:
    """Raise UserError for an archive that would unpack to `size` bytes, if that is many times its own size: a bomb."""
    if size > max(MAX_UNPACKED, MAX_RATIO * path.stat().st_size):
        raise UserError(
            f"{path} unpacks to {size / 1e9:,.1f} GB or more, over {MAX_RATIO} times its own size: if that is right, unpack it "
            "and name the folder"
        )


def check_end(archive: tarfile.TarFile) -> None:
    """Raise ReadError for a tar cut between two members, which tarfile takes for the end; a whole one ends in zeros."""
    file = archive.fileobj
    if isinstance(file, SmallReads) and isinstance(file.file, io.BufferedReader):  # a compressed file detects the cut by itself
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


def is_in_hidden(name: str) -> bool:
    """Whether a path is hidden or in a hidden or system folder."""
    return any(map(is_hidden, PurePosixPath(name).parts))


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or one that a system adds."""
    return name.startswith(".") or name in SYSTEM_NAMES


def too_large(name: str) -> Picture:
    return Picture(name, b"", f"larger than {MAX_BYTES // 2**20} MB")
