"""CelebA: 202,599 photographs of celebrities with 40 attributes, in its official split."""

from pathlib import Path, PurePosixPath
from typing import Any, Literal

from torchvision import datasets

from genai.data import archives, cache
from genai.data.arrays import Split
from genai.data.base import data_roots
from genai.data.photos import Photos, Plan
from genai.errors import UserError

HEADING = (  # of list_attr_celeba.txt
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair Blurry "
    "Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male "
    "Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks "
    "Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace "
    "Wearing_Necktie Young"
)
ATTRIBUTES = tuple(HEADING.split())
POSE = "Facing_Left"
NUM_COORDINATES = 10  # of list_landmarks_align_celeba.txt: x and y of the left eye, the right eye, the nose, two of the mouth
SPLIT_OF: dict[str, Split] = {"0": "train", "1": "val", "2": "test"}


class CelebA(Photos):
    """CelebA's aligned and cropped faces, in torchvision's layout (`<root>/celeba/`), downloaded if no root has it.

    `img_align_celeba` may be a folder or the zip.

    Args:
        labels: `none`, or `attributes` (N, 40): ATTRIBUTES, 0 or 1 each.
        pose: a 41st attribute, POSE: in the image the nose is left of the middle between the eyes, by the landmarks.
        root: the data folder, which has a folder `celeba`; default: $GENAI_DATA, then data/.

    Raises:
        UserError: `pose` without `attributes`, or with `augment.flip`, which turns faces round.
    """

    name = "celeba"

    def __init__(self, *, labels: Literal["none", "attributes"] = "none", pose: bool = False, **options: Any) -> None:
        super().__init__(**options)
        if pose and labels == "none":
            raise UserError("pose is one of the attributes: set data.init_args.labels to attributes too")
        if pose and self.augment and self.augment.flip:
            raise UserError("augment.flip turns faces round, and pose is a label: set data.init_args.augment.flip to false")
        self.labels = labels
        self.pose = pose
        self.label_kind = labels
        self.class_names = (*ATTRIBUTES, *([POSE] if pose else [])) if labels == "attributes" else ()
        self.num_classes = len(self.class_names)

    def recipe(self) -> cache.Recipe:
        folder = find_folder(self.root)
        options = {"where": self.name, "shape": self.image_shape, "labels": self.labels, "strict": self.strict}
        options |= {"pose": True} if self.pose else {}
        options |= {} if self.bit_depth is None else {"bit_depth": self.bit_depth}
        source = cache.identity(find_images(folder), *find_lists(folder, self.labels == "attributes", self.pose))
        return cache.Recipe(options, source, self.build)

    def plan(self) -> Plan:
        """The official split, and the attributes."""
        folder = find_folder(self.root)
        path = find_images(folder)
        partition, *lists = find_lists(folder, self.labels == "attributes", self.pose)
        split_of = {row[0]: SPLIT_OF.get(row[1]) for row in read_rows(partition, 2)}
        label_of: dict[str, Any] = dict.fromkeys(split_of, 0)
        if lists:
            rows = read_rows(lists[0], 1 + len(ATTRIBUTES))
            label_of = {row[0]: [float(value == "1") for value in row[1:]] for row in rows}
        if self.pose:
            poses = {row[0]: faces_left(row[1:], lists[1]) for row in read_rows(lists[1], 1 + NUM_COORDINATES)}
            label_of = {file: [*label_of[file], poses[file]] for file in label_of if file in poses}
        splits: dict[Split, list[str]] = {"train": [], "val": [], "test": []}
        labels, skipped = {}, []
        listing = archives.list_files(path)
        for name in listing.names:
            file = PurePosixPath(name).name
            split = split_of.pop(file, None)
            if split is None or file not in label_of:
                skipped.append(f"{name}: not in CelebA's lists")
            else:
                splits[split].append(name)
                labels[name] = label_of[file]
        return Plan(path, splits, labels, skipped + [f"{file}: missing" for file in split_of], listing.ignored)


def find_folder(root: str | None) -> Path:
    """torchvision's folder `celeba`, downloaded if no root has it."""
    roots = data_roots(root)
    found = next((folder / "celeba" for folder in roots if (folder / "celeba" / "list_eval_partition.txt").is_file()), None)
    if found is None:
        download(roots[0])
        found = roots[0] / "celeba"
    return found


def download(root: Path) -> None:
    """torchvision's download."""
    try:
        datasets.CelebA(str(root), download=True)
    except (RuntimeError, OSError) as error:
        raise UserError(
            f"CelebA is not there and could not be downloaded ({str(error).strip().splitlines()[-1]}): put "
            f"img_align_celeba.zip, list_eval_partition.txt and list_attr_celeba.txt into {root / 'celeba'}; "
            "Avatars needs no download"
        ) from None


def faces_left(coordinates: list[str], path: Path) -> float:
    """1 if the nose is left of the middle between the eyes, else 0, from a row of landmarks."""
    try:
        left_eye, _, right_eye, _, nose, *_ = map(float, coordinates)
    except ValueError:
        raise UserError(
            f"{path} has a landmark that is not a number ({' '.join(coordinates)}): put CelebA's file there"
        ) from None
    return float(2 * nose < left_eye + right_eye)


def find_lists(folder: Path, with_attributes: bool, with_landmarks: bool) -> list[Path]:
    """The text files of the split and, if they are needed, the attributes and the landmarks."""
    names = ["list_eval_partition.txt", *["list_attr_celeba.txt"] * with_attributes]
    paths = [folder / name for name in (*names, *["list_landmarks_align_celeba.txt"] * with_landmarks)]
    absent = next((path for path in paths if not path.is_file()), None)
    if absent:
        raise UserError(f"{absent} is missing: put CelebA's file there")
    return paths


def find_images(folder: Path) -> Path:
    """The unpacked folder of images, or the zip."""
    found = next((path for name in ("img_align_celeba", "img_align_celeba.zip") if (path := folder / name).exists()), None)
    if found is None:
        raise UserError(f"{folder} has no img_align_celeba folder or img_align_celeba.zip: put one of them there")
    return found


def read_rows(path: Path, columns: int) -> list[list[str]]:
    """The rows of a text file that have `columns` columns; headings have another number."""
    return [row for row in map(str.split, path.read_text("utf-8-sig", "replace").splitlines()) if len(row) == columns]
