"""Photographs of faces: your own folder or archive, UTKFace, Olivetti, CelebA."""

import hashlib
import io
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from genai.data import archives, cache
from genai.data.augment import Augment
from genai.data.base import ImageDataModule, LabelKind, Split, data_roots
from genai.errors import UserError

Labels = Literal["none", "gender", "age_group", "ethnicity", "attributes", "person"]

GENDERS = ("male", "female")
ETHNICITIES = ("white", "black", "asian", "indian", "other")
AGE_GROUPS = ("0-12", "13-19", "20-39", "40-59", "60+")
AGE_BOUNDS = (13, 20, 40, 60)
UTKFACE_ATTRIBUTES = ("male", "young", "old", *ETHNICITIES)  # young: under 20, old: 60 or more
CELEBA_HEADING = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair Blurry "
    "Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male "
    "Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks "
    "Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace "
    "Wearing_Necktie Young"
)
CELEBA_ATTRIBUTES = tuple(CELEBA_HEADING.split())
PEOPLE = tuple(f"person {i}" for i in range(40))

FROM_FILE_NAMES: dict[Labels, tuple[str, ...]] = {
    "none": (),
    "gender": GENDERS,
    "age_group": AGE_GROUPS,
    "ethnicity": ETHNICITIES,
    "attributes": UTKFACE_ATTRIBUTES,
}
CLASS_NAMES: dict[str, dict[Labels, tuple[str, ...]]] = {
    "utkface": FROM_FILE_NAMES,
    "olivetti": {"none": (), "person": PEOPLE},
    "celeba": {"none": (), "attributes": CELEBA_ATTRIBUTES},
}
UTKFACE_PLACES = ("utkface/UTKFace.tar.gz", "UTKFace.tar.gz", "utkface/UTKFace", "UTKFace", "utkface")
CELEBA_SPLITS: dict[str, Split] = {"0": "train", "1": "val", "2": "test"}
VAL_SHARE, TEST_SHARE = 0.1, 0.1
WINDOW = 64  # pictures in memory at once
MAX_PIXELS = 89_000_000  # of one picture; more may be a decompression bomb


class Plan(NamedTuple):
    """Which pictures of `path` make which split, in order; their labels, where there are any; and those left out, with why."""

    path: Path
    splits: dict[Split, list[str]]
    labels: dict[str, Any]
    left_out: list[str]


class Faces(ImageDataModule):
    """Faces of one size: cropped to the central square, then resized with antialiasing.

    Splits are fixed. For CelebA the official ones; for Olivetti the ninth and tenth picture of each person are val and test
    (320 / 40 / 40); else a hash of the file's name (without folders) puts about a tenth into test and a tenth into val, at
    least one each, so a picture stays where it is when others come or go.

    Transparent pictures are laid on white; EXIF rotations are applied. Pictures that cannot be read (or have more than
    89 million pixels) are left out, counted and listed in the cache's meta.json, and so are those whose name lacks a field
    that `labels` needs.

    Args:
        source: `utkface`, `olivetti`, `celeba`, or a folder, zip or tar of pictures: a path, or one below the data folder.
        size: of the square images, in pixels.
        channels: 3, or 1 for grey.
        labels: `none`; from file names like UTKFace's, `[age]_[gender]_[race]_...`: `gender` (GENDERS), `age_group`
            (AGE_GROUPS), `ethnicity` (ETHNICITIES) or `attributes` (UTKFACE_ATTRIBUTES, 0 or 1 each); `person` with
            Olivetti, 40 classes; `attributes` with CelebA, its 40.
        strict: refuse a source with pictures that cannot be read.
    """

    padding = "border"

    def __init__(
        self,
        source: str,
        size: int = 64,
        channels: Literal[1, 3] = 3,
        labels: Labels = "none",
        strict: bool = False,
        root: str | None = None,
        batch_size: int = 128,
        num_workers: int = 0,
        seed: int = 0,
        augment: Augment | None = None,
    ) -> None:
        super().__init__(root, batch_size, num_workers, seed, augment)
        kinds = CLASS_NAMES.get(source, FROM_FILE_NAMES)
        if labels not in kinds:
            raise UserError(f"{source} has no labels {labels!r}: set labels to one of {', '.join(kinds)}")
        self.where = source
        self.size = size
        self.channels = channels
        self.labels = labels
        self.strict = strict
        self.name = source if source in CLASS_NAMES else "faces"
        self.image_shape = (channels, size, size)
        self.class_names = kinds[labels]
        self.num_classes = len(self.class_names)
        self.label_kind = kind_of(labels)

    def cache_options(self) -> dict[str, Any]:
        where = self.where if self.where in CLASS_NAMES else str(self.find())
        return {"where": where, "shape": self.image_shape, "labels": self.labels, "strict": self.strict}

    def source(self) -> Any:
        if self.where == "celeba":
            folder = celeba_folder(self.root)
            return cache.identity(celeba_images(folder), *celeba_lists(folder, self.labels))
        path = self.find()
        if path.is_dir():
            return hashlib.sha256(repr(archives.size_and_times(path)).encode()).hexdigest()
        return cache.identity(path)

    def build(self, writer: cache.Writer) -> None:
        if self.where == "olivetti":
            self.build_olivetti(writer)
        else:
            self.build_files(writer, self.plan())

    # -- where the pictures are ------------------------------------------------------------------------------------------

    def find(self) -> Path:
        """The folder or file of the source.

        Raises:
            UserError: there is none.
        """
        if self.where == "olivetti":
            return olivetti_file(self.root)
        given = Path(self.where).expanduser()
        places = UTKFACE_PLACES if self.where == "utkface" else (self.where,)
        below = [root / place for root in data_roots(self.root) for place in places]
        candidates = below if self.where == "utkface" else [given, *below]
        found = next((path for path in candidates if path.exists()), None)
        if found is None:
            raise UserError(missing(self.where, candidates))
        return found.resolve()

    def plan(self) -> Plan:
        """Which picture goes where."""
        if self.where == "celeba":
            return plan_celeba(celeba_folder(self.root), self.labels)
        path = self.find()
        names = archives.names(path)
        labels = {name: label for name in names if (label := label_of(name, self.labels)) is not None}
        usable = names if self.labels == "none" else list(labels)
        if len(usable) < 3:
            raise UserError(
                f"{path} has {len(usable)} pictures with labels {self.labels!r} in their names, of {len(names)}, and training "
                "needs three: add pictures, or set labels: none"
            )
        left_out = [f"{name}: no {self.labels} in its name" for name in names if name not in labels and self.labels != "none"]
        return Plan(path, split_by_hash(usable), labels, left_out)

    # -- decoding --------------------------------------------------------------------------------------------------------

    def build_files(self, writer: cache.Writer, plan: Plan) -> None:
        """Decode the pictures of a plan."""
        names = [name for split in plan.splits.values() for name in split]
        images = writer.start(len(names), self.image_shape)
        unreadable = self.decode_into(images, writer, plan.path, {name: row for row, name in enumerate(names)})
        for problem in (*plan.left_out, *unreadable.values()):
            writer.skip(problem)
        kept = [row for row, name in enumerate(names) if name not in unreadable]
        if unreadable:
            close_gaps(images, kept)
        counts = {split: sum(name not in unreadable for name in names) for split, names in plan.splits.items()}
        empty = next((split for split, count in counts.items() if not count), None)
        if empty:
            raise UserError(f"{plan.path} has no readable picture for {empty} ({tell(writer.meta['skipped'])}): add pictures")
        labels = [plan.labels.get(names[row], 0) for row in kept]
        writer.finish(np.array(labels, self.label_type()), counts)
        if writer.meta["skipped"]:
            skipped, total = writer.meta["skipped"], len(kept) + len(writer.meta["skipped"])
            print(f"{self.name}: left out {len(skipped)} of {total} pictures: {tell(skipped)}", file=sys.stderr)

    def decode_into(self, images: np.ndarray, writer: cache.Writer, path: Path, rows: Mapping[str, int]) -> dict[str, str]:
        """Fill each picture's row; returns those that cannot be read, by name, with the reason."""
        unreadable = {}
        wanted = (picture for picture in archives.pictures(path) if picture.name in rows)
        with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool, writer.progress() as bar:
            warnings.simplefilter("ignore")  # Pillow's about odd metadata, and large pictures, which decode refuses
            task = bar.add_task(f"decoding {self.name}", total=len(rows))
            for window in windows(wanted, WINDOW):
                for picture, result in zip(window, pool.map(self.decode, window), strict=True):
                    if isinstance(result, str):
                        unreadable[picture.name] = f"{picture.name}: {result}"
                        self.refuse(path, unreadable[picture.name])
                    else:
                        images[rows[picture.name]] = result
                bar.advance(task, len(window))
        return unreadable

    def decode(self, picture: archives.Picture) -> np.ndarray | str:
        """The picture, uint8 (C, size, size), or why it cannot be read."""
        if picture.problem or not picture.content:
            return picture.problem or "empty file"
        try:
            return decode(picture.content, self.size, self.channels)
        except Exception as error:  # Pillow raises nearly anything on damaged bytes
            return f"{type(error).__name__}: {error}".splitlines()[0]

    def refuse(self, path: Path, problem: str) -> None:
        """Raises UserError where `strict`."""
        if self.strict:
            raise UserError(
                f"{path} has a picture that cannot be read, {problem}: remove it, or set strict: false to leave it out"
            )

    def label_type(self) -> type:
        """dtype of the labels."""
        return np.float32 if self.label_kind == "attributes" else np.int64

    def build_olivetti(self, writer: cache.Writer) -> None:
        """scikit-learn's Olivetti faces: ten pictures of a person after the other."""
        from sklearn.datasets import fetch_olivetti_faces  # a second to import, for the first start only

        file = olivetti_file(self.root)
        try:
            faces = fetch_olivetti_faces(data_home=str(file.parent), download_if_missing=False)
        except Exception as error:  # unpickling raises nearly anything on damaged bytes
            raise UserError(f"{file} is damaged ({error}): delete it to download it again") from None
        number = np.arange(len(faces.images)) % 10
        order = np.concatenate([np.flatnonzero(number < 8), np.flatnonzero(number == 8), np.flatnonzero(number == 9)])
        out = writer.start(len(order), self.image_shape)
        for row, i in enumerate(order):
            grey = Image.fromarray(np.rint(faces.images[i] * 255).astype(np.uint8))
            out[row] = to_array(grey, self.size, self.channels)
        labels = faces.target[order] if self.labels == "person" else np.zeros(len(order))
        writer.finish(labels.astype(np.int64), {"train": int((number < 8).sum()), "val": 40, "test": 40})


# -- one picture ---------------------------------------------------------------------------------------------------------


def decode(content: bytes, size: int, channels: int) -> np.ndarray:
    """An image file -> its central square, uint8 (channels, size, size).

    Raises:
        ValueError, OSError and whatever else Pillow raises: the file is damaged, or has too many pixels.
    """
    with Image.open(io.BytesIO(content)) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width}x{image.height} are too many pixels")
        if image.mode in ("RGB", "L"):
            image.draft(image.mode, (2 * size, 2 * size))  # JPEG decodes large pictures at 1/2, 1/4 or 1/8
        ImageOps.exif_transpose(image, in_place=True)
        return to_array(flat(image), size, channels)


def flat(image: Image.Image) -> Image.Image:
    """Any mode -> L or RGB, transparency laid on white, 16 bits reduced to 8."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def to_array(image: Image.Image, size: int, channels: int) -> np.ndarray:
    """The central square, resized with antialiasing (bicubic), uint8 (channels, size, size)."""
    mode = "RGB" if channels == 3 else "L"
    if image.mode != mode:
        image = image.convert(mode)
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    return np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)


# -- labels and splits ---------------------------------------------------------------------------------------------------


def kind_of(labels: Labels) -> LabelKind:
    """The form of the labels."""
    if labels == "none" or labels == "attributes":
        return labels
    return "class"


def label_of(name: str, labels: Labels) -> Any:
    """The label in a file name `[age]_[gender]_[race]_...`, or None where a field it needs is missing (or none is wanted)."""
    age, gender, ethnicity = fields(PurePosixPath(name).name)
    if labels == "gender":
        return gender
    if labels == "ethnicity":
        return ethnicity
    if labels == "age_group":
        return None if age is None else int(np.searchsorted(AGE_BOUNDS, age, side="right"))
    if labels == "attributes" and age is not None and gender is not None and ethnicity is not None:
        return [float(value) for value in (gender == 0, age < 20, age >= 60, *(i == ethnicity for i in range(5)))]
    return None


def fields(name: str) -> tuple[int | None, int | None, int | None]:
    """Age, gender and ethnicity in a file name; a field counts only at its own place."""
    patterns = (r"(\d{1,3})_", r"[^_]*_([01])_", r"[^_]*_[^_]*_([0-4])_")
    age, gender, ethnicity = (int(match[1]) if (match := re.match(pattern, name)) else None for pattern in patterns)
    return age, gender, ethnicity


def split_by_hash(names: Iterable[str]) -> dict[Split, list[str]]:
    """Three names or more -> about 80 / 10 / 10 %, each in the order of the hash."""
    by_place = sorted((place(name), name) for name in names)
    ordered = [name for _, name in by_place]
    places = np.array([u for u, _ in by_place])
    test = min(max(1, int((places < TEST_SHARE).sum())), len(ordered) - 2)
    val = min(max(1, int((places < TEST_SHARE + VAL_SHARE).sum()) - test), len(ordered) - test - 1)
    return {"train": ordered[test + val :], "val": ordered[test : test + val], "test": ordered[:test]}


def place(name: str) -> float:
    """A file name's place in [0, 1), whatever its folder."""
    return int(hashlib.sha256(PurePosixPath(name).name.encode()).hexdigest()[:13], 16) / 16**13


def windows(pictures: Iterator[archives.Picture], size: int) -> Iterator[list[archives.Picture]]:
    """Up to `size` at a time."""
    while window := list(islice(pictures, size)):
        yield window


def close_gaps(images: np.ndarray, kept: list[int]) -> None:
    """Move the kept rows (ascending) to the front."""
    for to, row in enumerate(kept):
        if to != row:
            images[to] = images[row]


def tell(problems: list[str], most: int = 3) -> str:
    """The first few, and how many more."""
    more = f" and {len(problems) - most} more" if len(problems) > most else ""
    return "; ".join(problems[:most]) + more


# -- known sources -------------------------------------------------------------------------------------------------------


def missing(where: str, candidates: list[Path]) -> str:
    """What to say where a source is not there."""
    looked = ", ".join(dict.fromkeys(map(str, candidates)))
    if where == "utkface":
        return (
            f"UTKFace is not there (looked for {looked}): get UTKFace.tar.gz (aligned and cropped faces) from "
            "https://susanqq.github.io/UTKFace and put it there; genai.data.avatars.Avatars needs no download"
        )
    return f"there is no folder or archive {where} (looked for {looked}): set source to a folder, zip or tar of pictures"


def olivetti_file(root: str | None) -> Path:
    """scikit-learn's file, downloaded where no root has it."""
    roots = data_roots(root)
    candidates = [folder / name for folder in roots for name in ("olivetti/olivetti_py3.pkz", "olivetti_py3.pkz")]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        found = candidates[0]
        download_olivetti(found)
    return found


def download_olivetti(file: Path) -> None:
    """scikit-learn's download."""
    from sklearn.datasets import fetch_olivetti_faces

    try:
        fetch_olivetti_faces(data_home=str(file.parent), n_retries=0)
    except OSError as error:
        raise UserError(
            f"the Olivetti faces are not there and could not be downloaded ({error}): put scikit-learn's olivetti_py3.pkz at "
            f"{file}; genai.data.avatars.Avatars needs no download"
        ) from None


def celeba_folder(root: str | None) -> Path:
    """torchvision's folder `celeba`, downloaded where no root has it."""
    roots = data_roots(root)
    found = next((folder / "celeba" for folder in roots if (folder / "celeba" / "list_eval_partition.txt").is_file()), None)
    if found is None:
        download_celeba(roots[0])
        found = roots[0] / "celeba"
    return found


def download_celeba(root: Path) -> None:
    """torchvision's download."""
    import torchvision  # slow to import, and not needed where the files are there

    try:
        torchvision.datasets.CelebA(str(root), download=True)
    except (RuntimeError, OSError) as error:
        raise UserError(
            f"CelebA is not there and could not be downloaded ({str(error).strip().splitlines()[-1]}): put "
            f"img_align_celeba.zip, list_eval_partition.txt and list_attr_celeba.txt into {root / 'celeba'}; "
            "genai.data.avatars.Avatars needs no download"
        ) from None


def celeba_lists(folder: Path, labels: Labels) -> list[Path]:
    """The text files that are needed."""
    paths = [folder / "list_eval_partition.txt", *([folder / "list_attr_celeba.txt"] if labels == "attributes" else [])]
    absent = next((path for path in paths if not path.is_file()), None)
    if absent:
        raise UserError(f"{absent} is missing: put CelebA's file there")
    return paths


def celeba_images(folder: Path) -> Path:
    """The unpacked folder, or the zip."""
    found = next((path for name in ("img_align_celeba", "img_align_celeba.zip") if (path := folder / name).exists()), None)
    if found is None:
        raise UserError(f"{folder} has no img_align_celeba folder or img_align_celeba.zip: put one of them there")
    return found


def plan_celeba(folder: Path, labels: Labels) -> Plan:
    """The official split, and the 40 attributes."""
    path = celeba_images(folder)
    partition, *attribute_list = celeba_lists(folder, labels)
    split_of = {row[0]: CELEBA_SPLITS.get(row[1]) for row in table(partition, 2)}
    label_of_file: dict[str, Any] = {row[0]: 0 for row in table(partition, 2)}
    if attribute_list:
        rows = table(attribute_list[0], 1 + len(CELEBA_ATTRIBUTES))
        label_of_file = {row[0]: [float(value == "1") for value in row[1:]] for row in rows}
    splits: dict[Split, list[str]] = {"train": [], "val": [], "test": []}
    chosen, left_out = {}, []
    for name in archives.names(path):
        file = PurePosixPath(name).name
        split = split_of.pop(file, None)
        if split is None or file not in label_of_file:
            left_out.append(f"{name}: not in CelebA's lists")
        else:
            splits[split].append(name)
            chosen[name] = label_of_file[file]
    return Plan(path, splits, chosen, left_out + [f"{file}: missing" for file in split_of])


def table(path: Path, columns: int) -> list[list[str]]:
    """The rows of a text file with that many columns; its heading has another number."""
    return [row for row in map(str.split, path.read_text().splitlines()) if len(row) == columns]
