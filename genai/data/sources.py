"""A user's own data: where a file or folder lies, and which classes its labels name."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from genai.data.arrays import Split
from genai.data.base import data_roots
from genai.data.photos import split_by_hash
from genai.errors import UserError
from genai.terminal import visible

MAX_CLASSES = 1000


def find_source(root: str, what: str) -> Path:
    """The file or folder `root`: a path, or one relative to $GENAI_DATA or data/.

    Raises:
        UserError: there is none, or `root` is empty; `what` says what it should be.
    """
    if not root.strip():
        raise UserError(f"root is empty: set it to a {what} (. is the current folder)")
    candidates = [Path(root).expanduser(), *(folder / root for folder in data_roots(None))]
    found = next((path for path in candidates if path.exists()), None)
    if found is None:
        looked = ", ".join(dict.fromkeys(map(str, candidates)))
        raise UserError(f"there is no {what} {root} (looked for {looked}): set root to a {what}")
    return found.resolve()


def classes_of(labels: Iterable[object], source: object) -> tuple[str, ...]:
    """The different labels as text, sorted; numbers by value.

    Raises:
        UserError: there are fewer than two, or more than 1,000, which are no classes, or one has a control character.
    """
    names = {str(label) for label in labels}
    if not 2 <= len(names) <= MAX_CLASSES:
        raise UserError(f"{source} has {len(names)} different labels, and classes are 2 to {MAX_CLASSES}: choose other labels")
    if odd := next((name for name in sorted(names) if name != visible(name)), None):
        raise UserError(f"{source} has the label {odd!r}, with a control character: rename it")
    is_number = all(name.removeprefix("-").isdecimal() for name in names)
    return tuple(sorted(names, key=lambda name: (int(name) if is_number else 0, name)))


def class_indices(labels: Sequence[object], names: Sequence[str]) -> np.ndarray:
    """Labels -> their indices in `names`, int64 (N,)."""
    index = {name: i for i, name in enumerate(names)}
    return np.array([index[str(label)] for label in labels], np.int64)


def split_rows(num: int, source: object) -> dict[Split, list[int]]:
    """Row numbers of train, val and test, about 80 / 10 / 10 %: each depends on its number alone.

    Raises:
        UserError: there are fewer than three rows.
    """
    if num < 3:
        raise UserError(f"{source} has {num} images, and training needs three, one for each split: add images")
    return {split: sorted(map(int, names)) for split, names in split_by_hash(map(str, range(num)), str).items()}
