"""Files that are written whole or not at all, locks, and reading with a bound; what the system refuses is one line."""

import csv
import errno
import io
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import platformdirs
from filelock import FileLock

from genai.errors import FORBIDDEN, FULL, DamagedFileError, UserError, WriteError

MAX_TABLE = 200_000_000  # bytes of a CSV


def cache_folder() -> Path:
    """$GENAI_CACHE, or the user's cache folder: decoded images, tokens, reference features, locks."""
    return Path(os.environ.get("GENAI_CACHE") or platformdirs.user_cache_dir("genai"))


class NewPath(type(Path())):  # type: ignore[misc]
    """A path that has to be new when its file is written, and so have those that are made of it: `path / "x"`."""


@contextmanager
def os_errors_as_write_errors(path: str | Path) -> Iterator[None]:
    """Turn what the system raises when it refuses to write `path` (a full or read-only disk, say) into a WriteError."""
    try:
        yield
    except OSError as error:
        raise write_error(path, error) from None


def write_error(path: str | Path, error: OSError) -> WriteError:
    """The WriteError for a write to `path` that the system refused."""
    reason = error.strerror or str(error).split("\n")[0] or type(error).__name__
    advice = "choose a folder that you can write to" if error.errno in FORBIDDEN else "check the path and the disk"
    if cache_folder() in Path(path).parents:
        advice = "set GENAI_CACHE to a folder that you can write to"
    advice = "free some space, then run the command again" if error.errno in FULL else advice
    return WriteError(f"could not write {path} ({reason}): {advice}", reason)


@contextmanager
def open_atomically(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that takes the name `path` when the block ends; if the block raises, nothing is left.

    The content goes to a new file of a random name in the same folder (created if it is missing), is flushed to the disk and
    renamed, so other processes see the old content or the new, never a part. Processes that write at once do not disturb each
    other: the last one wins, or the first one if `path` is a NewPath. A symbolic link at `path` is replaced; the file that it
    leads to stays as it is.

    Raises:
        WriteError: the system refuses to write, at whatever point of the block.
        UserError: `path` is a NewPath, and by now there is a file.
    """
    temporary = temporary_beside(path)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    with os_errors_as_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, flags, 0o666)
        try:
            with os.fdopen(descriptor, "w+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if isinstance(path, NewPath):
                claim(temporary, path)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def claim(temporary: Path, path: Path) -> None:
    """Give a file the second name `path`, or reserve that name where the file system has no hard links.

    Raises:
        UserError: there is a file of that name; another command wrote it.
        OSError: the system refuses to write.
    """
    try:
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise
        except OSError:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        raise UserError(f"{path} was written meanwhile, and stays as it is: run the command again with another --out") from None


def temporary_beside(path: Path) -> Path:
    """A new hidden name in the folder of `path`, which nobody can foresee."""
    return path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}.tmp")


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write `content` (a str as UTF-8) to `path`, whole or not at all; see `open_atomically`."""
    with open_atomically(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_csv(path: Path, rows: Iterable[Iterable[Any]]) -> None:
    """Write a table to `path`, whole or not at all; its first row has the names of the columns.

    A text that a spreadsheet would compute as a formula, such as a file named `=HYPERLINK(...)`, begins with an apostrophe.
    """
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([plain_cell(cell) for cell in row] for row in rows)
    write_atomically(path, text.getvalue())


def plain_cell(cell: Any) -> Any:
    """A cell of a table; a text that begins like a formula, and is neither a number nor `-`, after an apostrophe."""
    if not isinstance(cell, str) or not cell.startswith(tuple("=+-@\t\r")) or cell == "-":
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def read_csv(path: Path) -> tuple[list[dict[str, str]], int]:
    """The rows of a table by the names of its columns, and the number of lines that are torn: with more or fewer cells, or the
    last one without an end.

    DamagedFileError for a file that is no table, by its size.
    """
    text = read_bounded(path, MAX_TABLE).decode(errors="replace").replace("\0", "\ufffd")
    lines = text.splitlines(keepends=True)
    whole = [line for line in lines if line.endswith(("\n", "\r")) and len(line) < csv.field_size_limit()]
    rows = [row for row in csv.DictReader(whole) if None not in row and None not in row.values()]
    return rows, len(lines) - len(rows) - bool(whole and whole[0] is lines[0])


def check_writable(path: Path) -> None:
    """Raise WriteError if a file or folder `path` could not be made, as far as the folder above it says."""
    above = next((folder for folder in path.absolute().parents if os.path.lexists(folder)), path)
    if above.is_dir() and not os.access(above, os.W_OK | os.X_OK):
        raise write_error(path, OSError(errno.EACCES, os.strerror(errno.EACCES)))


def make_folder(path: Path) -> None:
    """Make a folder and those above it; WriteError where the system refuses."""
    with os_errors_as_write_errors(path):
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path` for the block, after other processes; its folder is created if it is missing.

    Raises:
        WriteError: the lock file cannot be made.
    """
    lock = FileLock(path)
    with os_errors_as_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def read_bounded(path: Path, most: int) -> bytes:
    """The content of a regular file.

    Raises:
        OSError: it cannot be read.
        DamagedFileError: it is a pipe or a device, which may never end, or has more than `most` bytes.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))  # a pipe would wait
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise DamagedFileError(f"{path} is not a plain file: name one")
        content = file.read(most + 1)
    if len(content) > most:
        raise DamagedFileError(f"{path} has more than {most / 1e6:,.0f} MB, too many for what it should hold: check the file")
    return content
