"""Images of a Hugging Face dataset: of the hub, a Parquet file or saved. Needs `pip install genai[datasets]`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from genai.data import cache
from genai.data.archives import Picture
from genai.data.arrays import SPLITS, Split
from genai.data.base import ImageDataModule
from genai.data.photos import Decoder, close_gaps, common_scales, report_images, summarize
from genai.data.sources import class_indices, classes_of, find_source, split_rows
from genai.errors import UserError, check_at_least

RULES = 2  # version of the rules: which values images have


class HuggingFace(ImageDataModule):
    """A dataset with a column of images, read with the library `datasets`; code of a dataset's author is never run.

    Where it has splits `train` and `test`, its test split is ours, and about a tenth of train is val (unless it has
    `validation`). Otherwise all rows of its first split are divided, 80 / 10 / 10 %. Images of 16 bits share one white level.

    Args:
        root: a .parquet file, a folder of `Dataset.save_to_disk`, or the name of a dataset of the hub (`ylecun/mnist`).
        image_column: its column of images.
        label_column: its column of classes; None for images without labels.
        size: of the square images, in pixels.
        channels: 3, or 1 for grey.
        strict: refuse a dataset with images that cannot be read.

    Raises:
        UserError: the library is missing, there is no such dataset, or it lacks a column.
    """

    name = "huggingface"
    padding = "border"

    def __init__(
        self,
        root: str,
        image_column: str = "image",
        label_column: str | None = "label",
        size: int = 64,
        channels: Literal[1, 3] = 3,
        strict: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(root, **options)
        check_at_least("size", size, 1)
        self.image_shape = (channels, size, size)
        self.strict = strict
        self.image_column, self.label_column = image_column, label_column
        self.parts = load_parts(root, image_column, label_column)
        self.label_kind = "none" if label_column is None else "class"
        if label_column is not None:
            names = [str(label) for part in self.parts.values() for label in label_texts(part, label_column)]
            self.class_names = classes_of(names, root)
            self.num_classes = len(self.class_names)

    def recipe(self) -> cache.Recipe:
        options: dict[str, Any] = {"root": self.root, "columns": [self.image_column, self.label_column]}
        options |= {"shape": self.image_shape, "strict": self.strict, "rules": RULES}
        return cache.Recipe(options, {name: part._fingerprint for name, part in self.parts.items()}, self.build)

    def build(self, writer: cache.Writer) -> None:
        """Decode the rows of each split into a cache entry; those that cannot be read are skipped."""
        rows = [(split, part, row) for split, members in self.rows().items() for part, row in members]
        images = writer.start(len(rows), self.image_shape)
        decode = Decoder(self.image_shape[1], self.image_shape[0])
        failed = self.decode_rows(images, dict(enumerate(rows)), decode)
        scales = common_scales(decode.depths.values())  # one white for all images of 16 bits
        depths = {i: decode.depths.get(f"{part}/{row}") for i, (_, part, row) in enumerate(rows)}
        others = {i: rows[i] for i, depth in depths.items() if depth and decode.scale(depth) != scales[depth.kind]}
        failed |= self.decode_rows(images, others, Decoder(self.image_shape[1], self.image_shape[0], scales))
        for problem in failed.values():
            writer.skip(problem)
        kept = [i for i in range(len(rows)) if i not in failed]
        close_gaps(images, kept)
        counts = {split: sum(rows[i][0] == split for i in kept) for split in SPLITS}
        empty = next((split for split, count in counts.items() if not count), None)
        if empty:
            raise UserError(f"{self.root} has no readable image for {empty} ({summarize(list(failed.values()))}): add images")
        classes = self.labels_of([rows[i][1:] for i in kept])
        writer.finish(classes, counts)
        report_images(self, writer, classes, counts["train"])

    def decode_rows(self, images: np.ndarray, rows: Mapping[int, tuple[Split, str, int]], decode: Decoder) -> dict[int, str]:
        """Decode the pictures of `rows` into their places in `images`; those that cannot be read, with the reason."""
        failed = {}
        for i, (_, part, row) in rows.items():
            picture = decode(named_picture(self.parts[part][row][self.image_column], f"{part}/{row}"))
            if not isinstance(picture, str):
                images[i] = picture
                continue
            if self.strict:
                raise UserError(f"{self.root} has an image that cannot be read, {part}/{row} ({picture}): remove it")
            failed[i] = f"{part}/{row}: {picture}"
        return failed

    def rows(self) -> dict[Split, list[tuple[str, int]]]:
        """The rows of each of our splits, as (split of the dataset, number)."""
        whole = {name: [(name, row) for row in range(len(part))] for name, part in self.parts.items()}
        if {"train", "test"} <= whole.keys():
            if "validation" in whole:
                return {"train": whole["train"], "val": whole["validation"], "test": whole["test"]}
            divided = split_rows(len(whole["train"]), self.root)
            train = sorted([*divided["train"], *divided["test"]])
            return {
                "train": [("train", r) for r in train],
                "val": [("train", r) for r in divided["val"]],
                "test": whole["test"],
            }
        name = next(iter(whole))
        return {split: [(name, row) for row in rows] for split, rows in split_rows(len(whole[name]), self.root).items()}

    def labels_of(self, rows: Sequence[tuple[str, int]]) -> np.ndarray:
        """The classes (N,) int64 of rows; zeros without labels."""
        if self.label_column is None:
            return np.zeros(len(rows), np.int64)
        texts = {name: label_texts(part, self.label_column) for name, part in self.parts.items()}
        return class_indices([texts[part][row] for part, row in rows], self.class_names)


def load_parts(root: str, image_column: str, label_column: str | None) -> dict[str, Any]:
    """The splits of a dataset by name, with the images as undecoded bytes.

    Raises:
        UserError: the library is missing, there is no such dataset, or it lacks a column.
    """
    try:
        import datasets
    except ImportError:
        raise UserError("Hugging Face datasets need the library `datasets`: pip install genai[datasets]") from None
    try:
        path = find_source(root, ".parquet file or folder")
    except UserError:
        path = None
    try:
        if path is None:
            loaded = datasets.load_dataset(root)
        elif path.is_dir():
            loaded = datasets.load_from_disk(str(path))
        else:
            loaded = datasets.load_dataset("parquet", data_files=str(path))
    except Exception as error:  # a name that the hub does not have, no network, a damaged file: each raises its own class
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        fix = "name a .parquet file, a saved dataset or one of the hub"
        raise UserError(f"the dataset {root} cannot be loaded ({reason}): {fix}") from None
    parts = dict(loaded) if isinstance(loaded, dict) else {"train": loaded}
    for part in parts.values():
        for column in filter(None, (image_column, label_column)):
            if column not in part.column_names:
                there = ", ".join(part.column_names)
                raise UserError(f"{root} has no column {column} (there: {there}): set image_column or label_column")
    try:
        return {str(name): part.cast_column(image_column, datasets.Image(decode=False)) for name, part in parts.items()}
    except Exception:  # lists, numbers, ...: each raises its own class
        raise UserError(
            f"{root} has no images in the column {image_column}: set image_column to one with a picture in each row"
        ) from None


def label_texts(part: Any, column: str) -> list[str]:
    """The labels of a split as text: the names of its classes if the dataset has them.

    Raises:
        UserError: a row has no label, or more than one; the hub's mark for none is None or -1.
    """
    names = getattr(part.features[column], "names", None)
    values = list(part[column])
    if any(isinstance(value, list | dict) for value in values):
        raise UserError(
            f"{column} has several values in a row, and a class is one: set label_column to another column, or null"
        )
    is_missing = [v is None or v == "" or v != v or bool(names and not 0 <= v < len(names)) for v in values]  # NaN != NaN
    missing = [row for row, absent in enumerate(is_missing) if absent]
    if missing:
        raise UserError(f"row {missing[0]} of {len(part):,} has no {column}: leave such rows out, or set label_column: null")
    values = part.with_format("numpy")[column] if names is None else part[column]
    return [names[value] if names else str(value) for value in values]


def named_picture(value: Any, name: str) -> Picture:
    """A cell of a column of images, {bytes, path}, as a picture for the decoder."""
    if not isinstance(value, dict):
        return Picture(name, b"", "no image")
    try:
        content = value.get("bytes") or (Path(value["path"]).read_bytes() if value.get("path") else b"")
    except OSError as error:
        return Picture(name, b"", f"{value['path']}: {error.strerror}")
    return Picture(name, content)
