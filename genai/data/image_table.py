"""A user's own images with a table of labels: pictures, and a CSV with a row for each."""

import csv
import io
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from genai.data import archives, cache
from genai.data.cache import Recipe
from genai.data.file_types import ending_of, has_picture_ending
from genai.data.photos import Photos, Plan, identity, split_by_hash
from genai.data.sources import class_indices, classes_of, find_source
from genai.errors import UserError
from genai.files import read_bounded

MAX_BYTES = 2**28  # of a table; a row for each of a million images has about 30 MB


class ImageTable(Photos):
    """The images of a folder, zip or tar whose labels are in a CSV file with a header.

        file,label                    file,smiling,glasses
        001.png,cat                   001.png,1,0
        002.png,dog                   002.png,0,1

    The first column has the path of each image inside of the source. One other column has its class; several columns are
    attributes, 0 or 1 each. Semicolons and tabs separate columns too. Images without a row are skipped. Splits are those of
    `ImageFolder`.

    Args:
        root: the folder, zip or tar: a path, or one relative to $GENAI_DATA or data/.
        table: the CSV file: a path, or one relative to the folder `root`.
        columns: the columns to use as labels; default: all but the first.

    Raises:
        UserError: there is no such source or table, it lacks a column, or its values are no labels.
    """

    name = "image-table"

    def __init__(self, root: str, table: str = "labels.csv", columns: Sequence[str] | None = None, **options: Any) -> None:
        super().__init__(root=root, **options)
        self.path = find_source(root, "folder or archive")
        self.table = self.path / table if (self.path / table).is_file() else find_source(table, "CSV file")
        self.columns, self.rows = read_labels(self.table, columns)
        if len(self.columns) == 1:
            self.label_kind = "class"
            self.class_names = classes_of((row[0] for row in self.rows.values()), self.table)
        else:
            self.label_kind = "attributes"
            self.class_names = tuple(self.columns)
            check_attributes(self.rows, self.table)
        self.num_classes = len(self.class_names)

    def recipe(self) -> Recipe:
        options: dict[str, Any] = {"path": str(self.path), "table": str(self.table), "columns": self.columns}
        options |= {"shape": self.image_shape, "strict": self.strict}
        options |= {} if self.bit_depth is None else {"bit_depth": self.bit_depth}
        return Recipe(options, [identity(self.path), cache.identity(self.table)], self.build)

    def plan(self) -> Plan:
        names, ignored = archives.list_files(self.path)
        if self.path.resolve() in self.table.resolve().parents:  # the table itself is no ignored file
            ignored = dict(Counter(ignored) - Counter([ending_of(self.table.name)]))
        row_of = {name: image_name(name) for name in names}  # tar writes ./1.png
        known = [name for name in names if row_of[name] in self.rows]
        if len(known) < 3:
            raise UserError(
                f"{self.table} names {len(known)} of the {len(names)} images of {self.path}, and training needs three: write "
                "the path of each image inside of the source, such as cats/1.png, into the first column"
            )
        if self.label_kind == "class":
            indices = class_indices([self.rows[row_of[name]][0] for name in known], self.class_names)
            labels: dict[str, object] = dict(zip(known, map(int, indices), strict=True))
        else:
            labels = {name: [float(value) for value in self.rows[row_of[name]]] for name in known}
        skipped = [f"{name}: no row in {self.table.name}" for name in names if row_of[name] not in self.rows]
        if absent := sorted(set(self.rows) - set(row_of.values())):
            print(
                f"{self.name}: {self.table.name} names {len(absent)} files that are no images of {self.path}: {absent[0]}, ..."
            )
        return Plan(self.path, split_by_hash(known, lambda name: str(PurePosixPath(name))), labels, skipped, ignored)


def read_labels(path: Path, columns: Sequence[str] | None) -> tuple[list[str], dict[str, list[str]]]:
    """The columns of labels and, by the name of the image, its labels.

    Raises:
        UserError: the file is not a CSV of at least two columns, or lacks one of `columns`.
    """
    try:
        text = read_bounded(path, MAX_BYTES).decode("utf-8-sig")
        first = text.lstrip("\r\n").partition("\n")[0]
        delimiter = max(",;\t", key=first.count)  # spreadsheets write semicolons where the comma is the decimal point
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        header, *rows = [[cell.strip() for cell in row] for row in lines if row]
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(
            f"{path} is not a CSV in UTF-8 with a header ({error}): write a line of names, then one for each image"
        ) from None
    ending = PurePosixPath(header[0]).suffix
    if ending and rows and ending == PurePosixPath(rows[0][0]).suffix:
        raise UserError(
            f"{path} begins with {header[0]} instead of the names of its columns: add a first line such as file,label"
        )
    chosen = list(columns) if columns else header[1:]
    missing = [name for name in chosen if name not in header[1:]]
    if missing or not chosen:
        there = ", ".join(header[1:]) or "none"
        raise UserError(f"{path} lacks the column {missing[0] if missing else 'of labels'} (there: {there}): set columns")
    short = next((number for number, row in enumerate(rows, start=2) if len(row) != len(header)), None)
    if short:
        raise UserError(f"{path} has another number of values than its header in row {short}: correct that row")
    twice = next((name for name in chosen if header.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{path} has the column {twice} twice: rename one of them")
    paths = next((i for i, cell in enumerate(rows[0]) if has_picture_ending(cell)), 0) if rows else 0
    if header[paths] in chosen:
        raise UserError(f"{path} has the paths of the images in column {paths + 1}, {header[paths]}: make it the first column")
    positions = [header.index(name) for name in chosen]
    labels: dict[str, list[str]] = {}
    for number, row in enumerate(rows, start=2):
        values = [row[position] for position in positions]
        if "" in values:
            raise UserError(f"{path} has no label for {row[0]} in row {number}: write one, or leave the row out")
        if labels.setdefault(image_name(row[0]), values) != values:
            raise UserError(f"{path} has different labels for {row[0]}, the last in row {number}: remove one of the rows")
    return chosen, labels


def image_name(text: str) -> str:
    """The path of an image inside of the source: `cats/1.png`, which a person may write as `./cats/1.png` or `cats\\1.png`.

    File names of a Mac have accents as characters of their own, those of other programs do not: here they are the same.
    """
    return str(PurePosixPath(unicodedata.normalize("NFC", text).replace("\\", "/")))


def check_attributes(rows: dict[str, list[str]], path: Path) -> None:
    """Raise UserError for a value that is not 0 or 1."""
    for name, values in rows.items():
        wrong = next((value for value in values if value not in ("0", "1")), None)
        if wrong is not None:
            fix = "set columns to those with 0 and 1, or to the one that has the class"
            raise UserError(f"{path} has {wrong!r} for {name}, and attributes are 0 or 1: {fix}")
