"""Files that are written whole or not at all."""

import csv
import io
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def open_atomically(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that takes the name `path` when the block ends; if the block raises, nothing is left.

    The content goes to a new file of a random name in the same folder (created if it is missing), is flushed to the disk and
    renamed, so other processes see the old content or the new, never a part. Processes that write at once do not disturb each
    other: the last one wins. A symbolic link at `path` is replaced; the file that it leads to stays as it is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write `content` (a str as UTF-8) to `path`, whole or not at all; see `open_atomically`."""
    with open_atomically(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_csv(path: Path, rows: Iterable[Iterable[Any]]) -> None:
    """Write a table to `path`, whole or not at all; its first row has the names of the columns."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_atomically(path, text.getvalue())
