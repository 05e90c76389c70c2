"""Photographs from a folder or an archive: the base of UTKFace, CelebA and ImageFolder."""

import hashlib
import os
import sys
import warnings
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from genai.data import archives, cache
from genai.data.arrays import Split
from genai.data.base import ImageDataModule
from genai.data.decoding import MAX_VALUE, Depth, decode, set_white, why
from genai.data.file_types import describe_ignored
from genai.errors import UserError

VAL_SHARE, TEST_SHARE = 0.1, 0.1
BIT_DEPTHS = range(8, 17)
SMALL_RANGE, NEARLY_CONSTANT = 64, 1.0  # in units of 0..255: of a whole set, and the standard deviation within an image
WINDOW, WINDOW_BYTES = 64, 2**26  # images, and bytes of their files, in memory at once; one may be larger by itself


@dataclass(frozen=True)
class Plan:
    """Which images of a folder or archive make which split.

    path: the folder or archive.
    splits: the names of each split's images, in order.
    labels: by name; empty for data without labels.
    skipped: the images that are left out, each with the reason.
    ignored: the number of files that are no images, by ending.
    """

    path: Path
    splits: dict[Split, list[str]]
    labels: Mapping[str, Any] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    ignored: Mapping[str, int] = field(default_factory=dict)


class Photos(ImageDataModule):
    """Photographs of one size: cropped to the central square, then resized with antialiasing.

    Images that cannot be read (or have more than 89 million pixels) are skipped, counted and listed in the cache's meta.json.
    A subclass says which images there are and in which split (`plan`), and has a `recipe` that uses `build`.

    Args:
        size: of the square images, in pixels.
        channels: 3, or 1 for grey.
        strict: refuse a source with images that cannot be read.
        bit_depth: 8 to 16: the bits that are used of integers of 16; by default, the smallest depth of 8, 10, 12, 14 and 16
            that has room for the largest value of all files.
    """

    padding = "border"

    def __init__(
        self,
        size: int = 64,
        channels: Literal[1, 3] = 3,
        strict: bool = False,
        bit_depth: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if bit_depth is not None and bit_depth not in BIT_DEPTHS:
            raise UserError(f"bit_depth {bit_depth} is out of range: use 8 to 16")
        self.bit_depth = bit_depth
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
        decode = Decoder(self.size, self.channels, {"integer": 2**self.bit_depth - 1} if self.bit_depth else {})
        failed = decode_rows(images, rows, plan.path, decode, writer, self.strict)
        scales = {**common_scales(decode.depths.values()), **decode.scales}
        if others := {name: rows[name] for name, depth in decode.depths.items() if decode.scale(depth) != scales[depth.kind]}:
            again = Decoder(self.size, self.channels, scales)
            failed |= decode_rows(images, others, plan.path, again, writer, self.strict)
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
        writer.meta["ignored"] = dict(plan.ignored)
        notes = [] if self.bit_depth else describe_scales(decode.depths.values(), scales)
        labels = [plan.labels.get(names[row], 0) for row in kept]
        classes = np.array(labels, np.float32 if self.label_kind == "attributes" else np.int64)
        writer.finish(classes, counts)
        report_images(self, writer, classes, counts["train"], notes)


def report_images(
    data: ImageDataModule, writer: cache.Writer, labels: np.ndarray, num_train: int, notes: Sequence[str] = ()
) -> None:
    """Print what a user should know of the images and labels (N, ...) that were read, and keep it in the meta.json.

    The first `num_train` images are the training split; `notes` are further warnings.
    """
    images = writer.images[: len(labels)]
    writer.meta["duplicates"] = count_duplicates(images, num_train)
    untrained = check_classes(labels[:num_train], data.class_names) if data.label_kind == "class" else []
    writer.meta["warnings"] = [*notes, *untrained, *check_values(images)]
    for line in report(writer.meta, len(images)):
        print(f"{data.name}: {line}", file=sys.stderr)


def report(meta: Mapping[str, Any], num_images: int) -> Iterator[str]:
    """What a user should know of the images that were read, a line each."""
    if meta.get("ignored"):
        yield f"ignored {describe_ignored(meta['ignored'])}"
    if skipped := meta["skipped"]:
        yield f"skipped {len(skipped)} of {num_images + len(skipped)} images: {summarize(skipped)}"
    if meta["duplicates"]:
        yield (
            f"{meta['duplicates']} images of val and test are exact copies of images of train, so scores are too good: "
            "remove the copies"
        )
    yield from meta["warnings"]


def check_classes(labels: np.ndarray, class_names: Sequence[str]) -> list[str]:
    """A warning if training labels (N,) lack classes, which a model then cannot learn."""
    absent = [name for k, name in enumerate(class_names) if k not in labels]
    of_all = f"{len(absent)} of {len(class_names)} classes"
    return [f"train has no image of {of_all} ({summarize(absent)}): add images of them"] if absent else []


def check_values(images: np.ndarray, most: int = 2000) -> list[str]:
    """Warnings if images (N, C, H, W) use a small part of the range 0..255; at most about `most` of them are read."""
    some = images[:: max(1, len(images) // most)]
    low, high = int(some.min()), int(some.max())
    if high - low < SMALL_RANGE:
        return [f"all pixels are between {low} and {high} of 0..255: check the bit depth of the files, or rescale their values"]
    spread = np.array([float(image.std()) for image in some])
    if np.median(spread) < NEARLY_CONSTANT:
        return ["most images are nearly constant (one colour): check the files"]
    return []


def common_scales(depths: Collection[Depth]) -> dict[str, float]:
    """The value of white of all images of more than 8 bits, by their kind, so that they keep their relative brightness."""
    kinds = {depth.kind for depth in depths}
    return {kind: set_white(kind, max(depth.most for depth in depths if depth.kind == kind)) for kind in kinds}


def describe_scales(depths: Collection[Depth], scales: Mapping[str, float]) -> list[str]:
    """Which depth was assumed for files of 16 bits whose values need fewer."""
    values = [depth.most for depth in depths if depth.kind == "integer"]
    if not values or scales["integer"] == MAX_VALUE:
        return []
    bits = int(scales["integer"]).bit_length()
    return [
        f"{len(values)} files of 16 bits have values up to {max(values):g}: read as {bits} bits (bit_depth sets another depth)"
    ]


@dataclass(frozen=True)
class Decoder:
    """Decodes a picture of an archive to uint8 (channels, size, size), or to a str: why it cannot be read.

    Attributes:
        size, channels: of the result.
        scales: the value of white, by the kind of the values; each image's own if there is none.
        depths: those of the pictures of more than 8 bits, by name.
    """

    size: int
    channels: int
    scales: Mapping[str, float] = field(default_factory=dict)
    depths: dict[str, Depth] = field(default_factory=dict)

    def __call__(self, picture: archives.Picture) -> np.ndarray | str:
        if picture.problem or not picture.content:
            return picture.problem or "empty file"
        try:
            pixels, depth = decode(picture.content, self.size, self.channels, self.scales)
        except Exception as error:  # Pillow raises nearly anything on damaged bytes
            return why(error)
        if depth is not None:
            self.depths[picture.name] = depth
        return pixels

    def scale(self, depth: Depth) -> float:
        """The value of white that was used for a picture."""
        return self.scales.get(depth.kind, depth.white)


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
        for window in windows(wanted, WINDOW, WINDOW_BYTES):
            for picture, result in zip(window, pool.map(decode, window), strict=True):
                if not isinstance(result, str):
                    images[rows[picture.name]] = result
                    continue
                failed[picture.name] = f"{printable(picture.name)}: {result}"
                if strict:
                    raise UserError(
                        f"{path} has an image that cannot be read, {failed[picture.name]}: remove it, or set strict: false to "
                        "skip it"
                    )
            bar.advance(task, len(window))
            del window, picture  # so that they are not in memory while the next ones are read
    return failed


def windows(pictures: Iterator[archives.Picture], size: int, num_bytes: int) -> Iterator[list[archives.Picture]]:
    """Up to `size` at a time, fewer where their files reach `num_bytes`."""
    window: list[archives.Picture] = []
    for picture in pictures:
        window.append(picture)
        if len(window) == size or sum(len(picture.content) for picture in window) >= num_bytes:
            yield window
            window = []
    if window:
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


def printable(name: str) -> str:
    """A file name; its bytes that are not UTF-8 as `\\xe9`."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


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
    """Three names or more -> about 80 / 10 / 10 % for train, val and test; each in the order of the hash.

    A name's split depends on the hash of `key(name)`, so it stays where it is when other names are added or removed. In small
    sets the sizes of val and test are kept between a twentieth and a fifth, and at two or more of six or more names.
    """
    by_hash = sorted((hash_fraction(key(name)), name) for name in names)
    ordered = [name for _, name in by_hash]
    fractions = np.array([u for u, _ in by_hash])
    least = max(min(2, len(ordered) // 3), len(ordered) // 20)
    most = max(least, len(ordered) // 5)
    test = min(max(least, int((fractions < TEST_SHARE).sum())), most)
    val = min(max(least, int((fractions < TEST_SHARE + VAL_SHARE).sum()) - test), most)
    return {"train": ordered[test + val :], "val": ordered[test : test + val], "test": ordered[:test]}


def split_by_group(names: Iterable[str], group: Callable[[str], str]) -> dict[Split, list[str]]:
    """As `split_by_hash`, but all names of a group are in the same split; there are three groups or more.

    Where train would get less than half of the names, it gets the largest groups instead.
    """
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        groups.setdefault(group(name), []).append(name)
    keys = split_by_hash(groups, str)
    if 2 * sum(len(groups[key]) for key in keys["train"]) < sum(map(len, groups.values())):
        by_size = sorted((key for part in keys.values() for key in part), key=lambda key: len(groups[key]))
        first, second = len(keys["test"]), len(keys["test"]) + len(keys["val"])
        keys = {"train": by_size[second:], "val": by_size[first:second], "test": by_size[:first]}
    return {split: [name for key in part for name in groups[key]] for split, part in keys.items()}


def hash_fraction(text: str) -> float:
    """A hash in [0, 1), the same on every machine."""
    return int(hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:13], 16) / 16**13
