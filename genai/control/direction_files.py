"""Directions, saved with a run: vectors in safetensors, the rest as JSON in its header, and a SHA-256 over both."""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from genai.control.directions import Direction
from genai.control.spaces import EditSpace, Points
from genai.errors import DamagedFileError, UserError
from genai.files import read_bounded, write_atomically
from genai.terminal import all_visible

FORMAT = 1
MAX_BYTES = 64_000_000


class DirectionSet(NamedTuple):
    """The directions of a run, and how they were found.

    directions: all of one space.
    space: `w` or `z`.
    images_seen: of the checkpoint that they belong to.
    predictor, predictor_sha256: what read the attributes of the samples.
    num, seed: of the samples.
    """

    directions: list[Direction]
    space: str
    images_seen: int
    predictor: str
    predictor_sha256: str
    num: int
    seed: int

    def named(self, name: str) -> Direction:
        """The direction of that name; UserError if there is none."""
        for direction in self.directions:
            if direction.name == name:
                return direction
        names = ", ".join(direction.name for direction in self.directions)
        raise UserError(f"there is no direction {name!r}: choose from {names}, or find others with `genai directions`")


def save_directions(path: Path, found: DirectionSet) -> None:
    """Write directions whole or not at all.

    Raises:
        WriteError: the system refuses to write.
    """
    vectors = torch.stack([direction.vector for direction in found.directions]).float().contiguous()
    about = {**found._asdict(), "directions": [{**direction._asdict(), "vector": None} for direction in found.directions]}
    text = json.dumps({"format": FORMAT, **about})
    metadata = {"software": "genai", "directions": text, "sha256": digest(text, vectors)}
    write_atomically(path, save({"vectors": vectors}, metadata))


def load_directions(path: Path, images_seen: int | None = None) -> DirectionSet:
    """Read directions that `save_directions` wrote.

    Args:
        path: of the file.
        images_seen: of the model that is to be edited; None if it does not matter.

    Raises:
        UserError: there is no such file, or its directions belong to another checkpoint.
        DamagedFileError: it is damaged, if only in one bit.
    """
    if not path.is_file():
        raise UserError(f"there are no directions at {path}: `genai directions RUN` finds and saves them")
    try:
        content = read_bounded(path, MAX_BYTES)
        vectors = load(content)["vectors"]
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
        text = header["directions"]
        if header["sha256"] != digest(text, vectors):
            raise ValueError("it does not fit its sha256")
        about: dict[str, Any] = all_visible(json.loads(text))
        if about.pop("format") != FORMAT:
            raise ValueError("it has another format")
        rows = about.pop("directions")
        directions = [Direction(**{**row, "vector": vector}) for row, vector in zip(rows, vectors, strict=True)]
        found = DirectionSet(directions, **about)
        check_fields(found, vectors)
    except (OSError, SafetensorError, ArithmeticError, RecursionError, ValueError, KeyError, TypeError) as error:
        raise DamagedFileError(f"{path} is damaged ({error}): find the directions again with `genai directions`") from None
    if images_seen is not None and found.images_seen != images_seen:
        raise UserError(
            f"{path} belongs to a checkpoint of {found.images_seen:,} images, this one has seen {images_seen:,}: name that "
            "one with --checkpoint, or find the directions again with `genai directions --force`"
        )
    return found


def check_fields(found: DirectionSet, vectors: torch.Tensor) -> None:
    """Raise ValueError unless the fields have their types, steps and vectors (K, E) are finite, and there is a direction."""
    kinds: dict[Any, Any] = {str: str, int: int, float: (int, float)}
    parts: list[Any] = [found, *found.directions]
    for name, kind, value in (
        (*field, value) for part in parts for field, value in zip(type(part).__annotations__.items(), part, strict=True)
    ):
        if kind in kinds and (not isinstance(value, kinds[kind]) or isinstance(value, bool)):
            raise ValueError(f"it has a {type(value).__name__} as {name}")
    units = torch.tensor([float(direction.unit) for direction in found.directions])
    if not len(units) or vectors.ndim != 2 or not bool(vectors.isfinite().all()) or not bool(units.isfinite().all()):
        raise ValueError("its vectors are not finite")


def digest(text: str, vectors: torch.Tensor) -> str:
    """SHA-256 of the description and the vectors, in hexadecimal."""
    return hashlib.sha256(text.encode() + vectors.numpy().tobytes()).hexdigest()


def check_space(found: DirectionSet, space: EditSpace, points: Points) -> None:
    """Raise UserError unless the directions are of the space of the points."""
    if found.space != space.name or len(found.directions[0].vector) != points.x.shape[1]:
        raise UserError("these are directions of another model: find those of this one with `genai directions`")
