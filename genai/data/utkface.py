"""UTKFace: 23,000 photographs of faces with age, gender and ethnicity in their file names."""

import re
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np

from genai.data import archives
from genai.data.base import data_roots
from genai.data.cache import Recipe
from genai.data.photos import Photos, Plan, identity, split_by_hash
from genai.errors import UserError

Labels = Literal["none", "gender", "age_group", "ethnicity", "attributes"]

ETHNICITIES = ("white", "black", "asian", "indian", "other")
MAX_AGE = 120  # more is a mistake; the oldest face is of 116 years
AGE_BOUNDS = (13, 20, 40, 60)
CLASS_NAMES: dict[Labels, tuple[str, ...]] = {
    "none": (),
    "gender": ("male", "female"),
    "age_group": ("0-12", "13-19", "20-39", "40-59", "60+"),
    "ethnicity": ETHNICITIES,
    "attributes": ("male", "young", "old", *ETHNICITIES),  # young: under 20, old: 60 or more
}
PLACES = ("utkface/UTKFace.tar.gz", "UTKFace.tar.gz", "utkface/UTKFace", "UTKFace", "utkface")


class UTKFace(Photos):
    """UTKFace's aligned and cropped faces; about a tenth of them is the test split and a tenth the val split, by file name.

    The archive or its unpacked folder is expected below the data folder (`utkface/UTKFace.tar.gz`); it has to be downloaded by
    hand. The dataset is for non-commercial research.

    Args:
        labels: `none`; `gender`, `age_group` or `ethnicity` (classes); or `attributes` (N, 8): CLASS_NAMES["attributes"], 0 or
            1 each. Images whose file name lacks the field are skipped.
        root: the data folder, or an archive of the images; default: $GENAI_DATA, then data/.
    """

    name = "utkface"

    def __init__(self, *, labels: Labels = "none", **options: Any) -> None:
        super().__init__(**options)
        self.labels = labels
        self.class_names = CLASS_NAMES[labels]
        self.num_classes = len(self.class_names)
        self.label_kind = labels if labels in ("none", "attributes") else "class"

    def recipe(self) -> Recipe:
        options = {"where": self.name, "shape": self.image_shape, "labels": self.labels, "strict": self.strict}
        options |= {} if self.bit_depth is None else {"bit_depth": self.bit_depth}
        return Recipe(options, identity(self.find()), self.build)

    def find(self) -> Path:
        """The archive or folder of the images.

        Raises:
            UserError: there is none.
        """
        candidates = [root / place for root in data_roots(self.root) for place in PLACES]
        if self.root and archives.is_archive(Path(self.root)):
            candidates = [Path(self.root)]
        found = next((path for path in candidates if path.exists()), None)
        if found is None:
            raise UserError(
                f"UTKFace is not there (looked for {', '.join(map(str, candidates))}): get UTKFace.tar.gz (aligned and cropped "
                "faces) from https://susanqq.github.io/UTKFace and put it there; Avatars needs no download"
            )
        return found.resolve()

    def plan(self) -> Plan:
        path = self.find()
        names, ignored = archives.list_files(path)
        labels = {name: label for name in names if (label := parse_label(name, self.labels)) is not None}
        usable = names if self.labels == "none" else list(labels)
        if len(usable) < 3:
            raise UserError(
                f"{path} has {len(usable)} images with labels {self.labels!r} in their names, of {len(names)}, and training "
                "needs three: add images, or set labels: none"
            )
        skipped = [f"{name}: no {self.labels} in its name" for name in names if name not in labels and self.labels != "none"]
        return Plan(path, split_by_hash(usable, lambda name: PurePosixPath(name).name), labels, skipped, ignored)


def parse_label(name: str, labels: Labels) -> Any:
    """The label in a file name `[age]_[gender]_[race]_...`; None for labels `none` or if a field it needs is missing."""
    age, gender, ethnicity = parse_name(PurePosixPath(name).name)
    if labels == "gender":
        return gender
    if labels == "ethnicity":
        return ethnicity
    if labels == "age_group":
        return None if age is None else int(np.searchsorted(AGE_BOUNDS, age, side="right"))
    if labels == "attributes" and age is not None and gender is not None and ethnicity is not None:
        return [float(value) for value in (gender == 0, age < 20, age >= 60, *(i == ethnicity for i in range(5)))]
    return None


def parse_name(name: str) -> tuple[int | None, int | None, int | None]:
    """Age, gender and ethnicity in a file name, each None if it is missing from its position or out of range."""
    patterns = (r"([0-9]{1,3})_", r"[^_]*_([01])_", r"[^_]*_[^_]*_([0-4])_")
    age, gender, ethnicity = (int(match[1]) if (match := re.match(pattern, name)) else None for pattern in patterns)
    return age if age is not None and age <= MAX_AGE else None, gender, ethnicity
