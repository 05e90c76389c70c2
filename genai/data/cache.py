"""Decoded images on disk: a memory-mapped uint8 array, written once, whole or not at all.

An entry is a folder `<dataset>-<key>` with `images.npy` (num, C, H, W), `labels.npy` and `meta.json`. The key covers every
option that determines the content; meta.json remembers the source, so that a changed one is noticed and the entry rebuilt.
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from genai.errors import UserError

FORMAT = 2


def cache_folder() -> Path:
    """$GENAI_CACHE, or the user's cache folder."""
    return Path(os.environ.get("GENAI_CACHE") or platformdirs.user_cache_dir("genai")) / "data"


@dataclass
class Writer:
    """Where a data module puts its decoded images.

    `start` gives the whole array, to be filled row by row, split after split; `finish` says how many rows each split has
    (fewer than started, when some pictures were left out) and stores the labels. `skip` and `meta` are for meta.json.
    """

    folder: Path
    title: str
    meta: dict[str, Any] = field(default_factory=lambda: {"skipped": []})

    def start(self, num: int, shape: tuple[int, int, int]) -> np.ndarray:
        """The uint8 array (num, C, H, W) to fill, zeros at first; memory-mapped, so it may be larger than memory."""
        self.images = np.lib.format.open_memmap(self.folder / "images.npy", mode="w+", dtype=np.uint8, shape=(num, *shape))
        return self.images

    def finish(self, labels: np.ndarray, counts: Mapping[Any, int]) -> None:
        """Store `labels` (num, ...); the array holds `counts` images of each split, one split after the other."""
        assert sum(counts.values()) <= len(self.images)
        assert len(labels) == sum(counts.values())
        self.images.flush()
        np.save(self.folder / "labels.npy", labels)
        self.meta["counts"] = dict(counts)

    def skip(self, what: str) -> None:
        """List a source item that was left out (its name and why) in meta["skipped"]."""
        self.meta["skipped"].append(what)

    def progress(self) -> Progress:
        """A progress bar on stderr, silent where that is no terminal: `with writer.progress() as bar: ... bar.track(items)`."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        return Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


@dataclass(frozen=True)
class Stored:
    """A cache entry, opened."""

    images: np.ndarray
    labels: np.ndarray
    meta: dict[str, Any]

    def rows(self, split: str) -> slice:
        """Where a split lies in the arrays."""
        counts = self.meta["counts"]
        start = sum(counts[name] for name in list(counts)[: list(counts).index(split)])
        return slice(start, start + counts[split])


def key_of(options: Mapping[str, Any]) -> str:
    """Short hash of what determines the content."""
    return hashlib.sha256(json.dumps({**options, "format": FORMAT}, sort_keys=True).encode()).hexdigest()[:12]


def identity(*files: Path) -> list[list[Any]]:
    """[[name, bytes, time in ns], ...]: a `source` of files, the same wherever their folder is mounted."""
    return sorted([file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files)


def lock(name: str) -> FileLock:
    """A lock between processes, kept in the cache folder."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(f"cannot write into the cache folder {folder} ({error}): set GENAI_CACHE to a writable one") from None
    return FileLock(folder / f"{name}.lock")


def open_or_build(name: str, options: Mapping[str, Any], source: Any, build: Callable[[Writer], None]) -> Stored:
    """The entry of `name` and `options`, built when it is missing or when `source` (JSON) is no longer what it was built from.

    Two processes at once: one builds, the other waits and opens.
    """
    folder = cache_folder() / f"{name}-{key_of(options)}"
    stored = read(folder, source)
    if stored is None:
        with lock(folder.name):
            stored = read(folder, source)
            if stored is None:
                write(folder, name, source, build)
                stored = read(folder, source)
    assert stored is not None
    return stored


def write(folder: Path, name: str, source: Any, build: Callable[[Writer], None]) -> None:
    """Build beside the final place, then rename; the caller holds the entry's lock."""
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # of a build that was killed
    temporary.mkdir()
    try:
        writer = Writer(temporary, name)
        build(writer)
        digests = [digest(temporary / file) for file in ("images.npy", "labels.npy")]
        meta = {**writer.meta, "source": source, "sha256": digests}
        (temporary / "meta.json").write_text(json.dumps(meta))
        shutil.rmtree(folder, ignore_errors=True)
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def digest(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(folder: Path, source: Any) -> Stored | None:
    """The entry, or None when there is none or it was built from another source."""
    try:
        meta = json.loads((folder / "meta.json").read_text())
        images = np.load(folder / "images.npy", mmap_mode="c")  # copy-on-write: writable for torch, never for the file
        labels = np.load(folder / "labels.npy")
    except (OSError, ValueError):
        return None
    if meta["source"] != json.loads(json.dumps(source)):
        return None
    return Stored(images, labels, meta)
