"""Decoded images on disk: a memory-mapped uint8 array, written once, whole or not at all."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from filelock import FileLock
from rich.progress import Progress

FORMAT = 1


def cache_folder() -> Path:
    """$GENAI_CACHE, or the user's cache folder."""
    return Path(os.environ.get("GENAI_CACHE") or platformdirs.user_cache_dir("genai")) / "data"


@dataclass
class Writer:
    """Where a data module puts its decoded images.

    `start` fixes the shape of the whole array, `images` is then filled row by row; `labels` and `meta` are stored beside it.
    """

    folder: Path
    title: str
    meta: dict[str, Any] = field(default_factory=dict)

    def start(self, num: int, shape: tuple[int, int, int]) -> np.ndarray:
        """The uint8 array (num, C, H, W) to fill."""
        self.images = np.lib.format.open_memmap(self.folder / "images.npy", mode="w+", dtype=np.uint8, shape=(num, *shape))
        return self.images

    def finish(self, labels: np.ndarray, counts: Mapping[str, int]) -> None:
        """Store `labels` (num, ...); the array holds `counts` images of each split, one split after the other."""
        self.images.flush()
        np.save(self.folder / "labels.npy", labels)
        self.meta["counts"] = dict(counts)

    def progress(self) -> Progress:
        """A progress bar."""
        return Progress(transient=True)


@dataclass(frozen=True)
class Stored:
    """A cache entry, opened."""

    images: np.ndarray
    labels: np.ndarray
    meta: dict[str, Any]

    def rows(self, split: str) -> slice:
        """Where a split lies in the arrays."""
        counts = self.meta["counts"]
        start = sum(count for name, count in counts.items() if list(counts).index(name) < list(counts).index(split))
        return slice(start, start + counts[split])


def key_of(options: Mapping[str, Any]) -> str:
    """Short hash of what determines the content."""
    return hashlib.sha256(json.dumps({**options, "format": FORMAT}, sort_keys=True).encode()).hexdigest()[:12]


def open_or_build(name: str, options: Mapping[str, Any], source: Any, build: Callable[[Writer], None]) -> Stored:
    """The entry of `name` and `options`, built when it is missing or when `source` (JSON) is no longer what it was built from.

    Two processes at once: one builds, the other waits and opens.
    """
    folder = cache_folder() / f"{name}-{key_of(options)}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        stored = read(folder, source)
        if stored is None:
            write(folder, name, source, build)
            stored = read(folder, source)
    assert stored is not None
    return stored


def write(folder: Path, name: str, source: Any, build: Callable[[Writer], None]) -> None:
    """Build beside the final place, then rename."""
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        writer = Writer(temporary, name)
        build(writer)
        meta = {**writer.meta, "source": source, "sha256": digest(temporary / "images.npy")}
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
        images = np.load(folder / "images.npy", mmap_mode="c")
        labels = np.load(folder / "labels.npy")
    except (OSError, ValueError):
        return None
    if meta["source"] != json.loads(json.dumps(source)):
        return None
    return Stored(images, labels, meta)
