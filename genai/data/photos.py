"""Photographs from a folder or an archive: the base of UTKFace, CelebA and ImageFolder."""

import hashlib
import os
import sys
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from genai.data import archives, cache
from genai.data.arrays import Split
from genai.data.augment import Augment
from genai.data.base import ImageDataModule
from genai.data.decoding import decode_image
from genai.errors import UserError

VAL_SHARE, TEST_SHARE = 0.1, 0.1
WINDOW = 64  # images in memory at once


@dataclass(frozen=True)
class Plan:
    """Which images of a folder or archive make which split.

    path: the folder or archive.
    splits: the names of each split's images, in order.
    labels: by name; empty for data without labels.
    skipped: the images that are left out, each with the reason.
    """

    path: Path
    splits: dict[Split, list[str]]
    labels: Mapping[str, Any] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


class Photos(ImageDataModule):
    """Photographs of one size: cropped to the central square, then resized with antialiasing.

    Images that cannot be read (or have more than 89 million pixels) are skipped, counted and listed in the cache's meta.json.
    A subclass says which images there are and in which split (`plan`), and has a `recipe` that uses `build`.

    Args:
        size: of the square images, in pixels.
        channels: 3, or 1 for grey.
        strict: refuse a source with images that cannot be read.
    """

    padding = "border"

    def __init__(
        self,
        size: int,
        channels: Literal[1, 3],
        strict: bool,
        root: str | None,
        batch_size: int,
        num_workers: int,
        seed: int | None,
        augment: Augment | None,
    ) -> None:
        super().__init__(root, batch_size, num_workers, seed, augment)
        if size < 1:
            raise UserError(f"size {size} is out of range: use 1 or more")
        self.size = size
        self.channels = channels
        self.strict = strict
        self.image_shape = (channels, size, size)

    @abstractmethod
    def plan(self) -> Plan:
        """The images of each split, and their labels.

        Raises:
            UserError: the source is missing, damaged or too small.
        """

    def build(self, writer: cache.Writer) -> None:
        """Decode the images of the plan into a cache entry."""
        plan = self.plan()
        names = [name for split in plan.splits.values() for name in split]
        images = writer.start(len(names), self.image_shape)
        rows = {name: row for row, name in enumerate(names)}
        decode = Decoder(self.size, self.channels)
        failed = decode_rows(images, rows, plan.path, decode, writer, self.strict)
        for problem in (*plan.skipped, *failed.values()):
            writer.skip(problem)
        kept = [row for row, name in enumerate(names) if name not in failed]
        if failed:
            close_gaps(images, kept)
        counts = {split: sum(name not in failed for name in members) for split, members in plan.splits.items()}
        skipped = writer.meta["skipped"]
        empty = next((split for split, count in counts.items() if not count), None)
        if empty:
            raise UserError(f"{plan.path} has no readable image for {empty} ({summarize(skipped)}): add images")
        writer.meta["duplicates"] = count_duplicates(images[: len(kept)], counts["train"])
        labels = [plan.labels.get(names[row], 0) for row in kept]
        writer.finish(np.array(labels, np.float32 if self.label_kind == "attributes" else np.int64), counts)
        if skipped:
            print(
                f"{self.name}: skipped {len(skipped)} of {len(kept) + len(skipped)} images: {summarize(skipped)}",
                file=sys.stderr,
            )
        if writer.meta["duplicates"]:
            print(
                f"{self.name}: {writer.meta['duplicates']} images of val and test are exact copies of images of train, so "
                "scores are too good: remove the copies",
                file=sys.stderr,
            )


@dataclass(frozen=True)
class Decoder:
    """Decodes a picture of an archive to uint8 (channels, size, size), or to a str: why it cannot be read."""

    size: int
    channels: int

    def __call__(self, picture: archives.Picture) -> np.ndarray | str:
        if picture.problem or not picture.content:
            return picture.problem or "empty file"
        try:
            return decode_image(picture.content, self.size, self.channels)
        except Exception as error:  # Pillow raises nearly anything on damaged bytes
            return f"{type(error).__name__}: {error}".splitlines()[0]


def decode_rows(
    images: np.ndarray,
    rows: Mapping[str, int],
    path: Path,
    decode: Callable[[archives.Picture], np.ndarray | str],
    writer: cache.Writer,
    strict: bool,
) -> dict[str, str]:
    """Decode the pictures of `path` that `rows` names into their rows; those that cannot be read, by name, with the reason.

    Raises:
        UserError: `strict`, and a picture cannot be read.
    """
    failed = {}
    wanted = (picture for picture in archives.pictures(path) if picture.name in rows)
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool, writer.progress() as bar:
        warnings.simplefilter("ignore")  # Pillow's about odd metadata, and about large images, which decode_image refuses
        task = bar.add_task(f"decoding {writer.title}", total=len(rows))
        for window in windows(wanted, WINDOW):
            for picture, result in zip(window, pool.map(decode, window), strict=True):
                if not isinstance(result, str):
                    images[rows[picture.name]] = result
                    continue
                failed[picture.name] = f"{picture.name}: {result}"
                if strict:
                    raise UserError(
                        f"{path} has an image that cannot be read, {failed[picture.name]}: remove it, or set strict: false to "
                        "skip it"
                    )
            bar.advance(task, len(window))
    return failed


def windows(pictures: Iterator[archives.Picture], size: int) -> Iterator[list[archives.Picture]]:
    """Up to `size` at a time."""
    while window := list(islice(pictures, size)):
        yield window


def close_gaps(images: np.ndarray, kept: list[int]) -> None:
    """Move the kept rows (ascending) to the front."""
    for to, row in enumerate(kept):
        if to != row:
            images[to] = images[row]


def count_duplicates(images: np.ndarray, num_train: int) -> int:
    """How many of the images behind the first `num_train` are equal to one of these."""
    digests = [hashlib.sha1(image.tobytes(), usedforsecurity=False).digest() for image in images]
    train = set(digests[:num_train])
    return sum(digest in train for digest in digests[num_train:])


def summarize(problems: list[str], most: int = 3) -> str:
    """The first few, and how many more."""
    more = f" and {len(problems) - most} more" if len(problems) > most else ""
    return "; ".join(problems[:most]) + more


def identity(path: Path) -> Any:
    """What identifies the content of a folder or archive, for a cache recipe."""
    if path.is_dir():
        return hashlib.sha256(repr(archives.size_and_times(path)).encode()).hexdigest()
    return cache.identity(path)


def split_by_hash(names: Iterable[str], key: Callable[[str], str]) -> dict[Split, list[str]]:
    """Three names or more -> about 80 / 10 / 10 % for train, val and test, at least one each; each in the order of the hash.

    A name's split depends on the hash of `key(name)`, so it stays where it is when other names are added or removed.
    """
    by_hash = sorted((hash_fraction(key(name)), name) for name in names)
    ordered = [name for _, name in by_hash]
    fractions = np.array([u for u, _ in by_hash])
    test = min(max(1, int((fractions < TEST_SHARE).sum())), len(ordered) - 2)
    val = min(max(1, int((fractions < TEST_SHARE + VAL_SHARE).sum()) - test), len(ordered) - test - 1)
    return {"train": ordered[test + val :], "val": ordered[test : test + val], "test": ordered[:test]}


def split_by_group(names: Iterable[str], group: Callable[[str], str]) -> dict[Split, list[str]]:
    """As `split_by_hash`, but all names of a group are in the same split; there are three groups or more."""
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        groups.setdefault(group(name), []).append(name)
    return {split: [name for key in keys for name in groups[key]] for split, keys in split_by_hash(groups, str).items()}


def hash_fraction(text: str) -> float:
    """A hash in [0, 1), the same on every machine."""
    return int(hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:13], 16) / 16**13
