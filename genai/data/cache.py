"""Decoded images on disk: a memory-mapped uint8 array, written once, whole or not at all.

An entry is a folder `<dataset>-<key>` with `images.npy` (num, C, H, W), `labels.npy` and `meta.json`. The key covers every
option that determines the content. meta.json records the source files; if they change, the entry is rebuilt.
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from genai.errors import UserError
from genai.files import cache_folder, locked, os_errors_as_write_errors, temporary_beside, write_atomically

FORMAT = 2


def decoded_folder() -> Path:
    """Where the entries are: a part of the cache folder."""
    return cache_folder() / "data"


@dataclass
class Writer:
    """Where a data module puts its decoded images.

    `start` returns the whole array, to be filled row by row, split after split. `finish` stores the labels and the number of
    rows of each split (fewer than started if some images were skipped). `skip` and `meta` are for meta.json.
    """

    folder: Path
    title: str
    meta: dict[str, Any] = field(default_factory=lambda: {"skipped": []})

    def start(self, num: int, shape: tuple[int, int, int]) -> np.ndarray:
        """The uint8 array (num, C, H, W) to fill, zeros at first; memory-mapped, so it may be larger than memory.

        Raises:
            UserError: the disk has no room for it.
        """
        path = self.folder / "images.npy"
        with os_errors_as_write_errors(path):
            self.images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(num, *shape))
        reserve(path)
        return self.images

    def finish(self, labels: np.ndarray, counts: Mapping[Any, int]) -> None:
        """Store `labels` (num, ...); the array holds `counts` images of each split, one split after the other."""
        assert sum(counts.values()) <= len(self.images)
        assert len(labels) == sum(counts.values())
        with os_errors_as_write_errors(self.folder):
            self.images.flush()
            np.save(self.folder / "labels.npy", labels)
        self.meta["counts"] = dict(counts)

    def skip(self, what: str) -> None:
        """List an item of the source that was skipped (its name and why) in meta["skipped"]."""
        self.meta["skipped"].append(what)

    def progress(self) -> Progress:
        """A progress bar on stderr if that is a terminal: `with writer.progress() as bar: ... bar.track(items)`."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        return Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


@dataclass(frozen=True)
class Recipe:
    """How a cache entry is made.

    options: what determines the images and labels (JSON); part of the entry's key.
    source: what identifies the files that the entry is built from (JSON); if it changes, the entry is rebuilt.
    build: decodes: `writer.start`, fill the array split after split (train, val, test), `writer.finish`.
    """

    options: Mapping[str, Any]
    source: Any
    build: Callable[[Writer], None]


@dataclass(frozen=True)
class CacheEntry:
    """An open entry: images uint8 (num, C, H, W), memory-mapped, labels (num, ...) and the content of meta.json."""

    images: np.ndarray
    labels: np.ndarray
    meta: dict[str, Any]

    def rows(self, split: str) -> slice:
        """Where a split lies in the arrays."""
        counts = self.meta["counts"]
        start = sum(counts[name] for name in list(counts)[: list(counts).index(split)])
        return slice(start, start + counts[split])


def reserve(path: Path) -> None:
    """Allocate the disk blocks of a sparse file; without them, writing to its memory map on a full disk is a SIGBUS."""
    size = path.stat().st_size
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        raise UserError(
            f"no room for {size / 1e9:.2g} GB of decoded images in {path.parent.parent} ({error.strerror}): free some space, "
            "or set GENAI_CACHE to another disk"
        ) from None


def key_of(options: Mapping[str, Any]) -> str:
    """Short hash of the options that determine an entry's content."""
    return hashlib.sha256(json.dumps({**options, "format": FORMAT}, sort_keys=True).encode()).hexdigest()[:12]


def identity(*files: Path) -> list[list[Any]]:
    """[[name, bytes, time in ns], ...]: the `source` of a recipe; it does not depend on where the files lie."""
    return sorted([file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files)


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Hold a lock between processes, kept in the cache folder."""
    folder = decoded_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(f"cannot write into the cache folder {folder} ({error}): set GENAI_CACHE to a writable one") from None
    with locked(folder / f"{name}.lock"):
        yield


def open_or_build(name: str, recipe: Recipe) -> CacheEntry:
    """The entry of the dataset `name`, built if it is missing or was built from another source.

    Of two processes at once, one builds while the other waits.
    """
    folder = decoded_folder() / f"{name}-{key_of(recipe.options)}"
    entry = read(folder, recipe.source)
    if entry is None:
        with lock(folder.name):
            entry = read(folder, recipe.source)
            if entry is None:
                write(folder, name, recipe)
                entry = read(folder, recipe.source)
    assert entry is not None
    return entry


def write(folder: Path, name: str, recipe: Recipe) -> None:
    """Build an entry; the caller holds its lock."""
    with new_folder(folder) as temporary:
        writer = Writer(temporary, name)
        recipe.build(writer)
        digests = [digest(temporary / file) for file in ("images.npy", "labels.npy")]
        meta = {**writer.meta, "source": recipe.source, "sha256": digests}
        write_atomically(temporary / "meta.json", json.dumps(meta))


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder with a random name that replaces `folder` when the block ends without an error."""
    temporary = temporary_beside(folder)
    for leftover in folder.parent.glob(f".{folder.name}.*.tmp"):  # of a build that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    with os_errors_as_write_errors(folder):
        temporary.mkdir()
    try:
        yield temporary
        shutil.rmtree(folder, ignore_errors=True)
        with os_errors_as_write_errors(folder):
            temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def digest(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(folder: Path, source: Any) -> CacheEntry | None:
    """The entry, or None if there is none, it is damaged or it was built from another source."""
    try:
        meta = json.loads((folder / "meta.json").read_text())
        if meta["source"] != json.loads(json.dumps(source)):
            return None
        images = np.load(folder / "images.npy", mmap_mode="c")  # copy-on-write: writable for torch, never for the file
        labels = np.load(folder / "labels.npy", mmap_mode="r")
        num = sum(meta["counts"].values())
        is_whole = isinstance(meta["sha256"], list) and images.dtype == np.uint8 and images.ndim == 4
    except (OSError, ValueError, TypeError, KeyError, AttributeError, EOFError, RecursionError):
        return None
    return CacheEntry(images, np.array(labels), meta) if is_whole and len(images) >= num == len(labels) else None
