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
SPLIT_OF: dict[str, Split] = {"0": "train", "1": "val", "2": "test"}


class CelebA(Photos):
    """CelebA's aligned and cropped faces, in torchvision's layout (`<root>/celeba/`), downloaded if no root has it.

    `img_align_celeba` may be a folder or the zip.

    Args:
        labels: `none`, or `attributes` (N, 40): ATTRIBUTES, 0 or 1 each.
        root: the data folder, which has a folder `celeba`; default: $GENAI_DATA, then data/.
    """

    name = "celeba"

    def __init__(self, *, labels: Literal["none", "attributes"] = "none", **options: Any) -> None:
        super().__init__(**options)
        self.labels = labels
        self.label_kind = labels
        self.class_names = ATTRIBUTES if labels == "attributes" else ()
        self.num_classes = len(self.class_names)

    def recipe(self) -> cache.Recipe:
        folder = find_folder(self.root)
        options = {"where": self.name, "shape": self.image_shape, "labels": self.labels, "strict": self.strict}
        source = cache.identity(find_images(folder), *find_lists(folder, self.labels == "attributes"))
        return cache.Recipe(options, source, self.build)

    def plan(self) -> Plan:
        """The official split, and the 40 attributes."""
        folder = find_folder(self.root)
        path = find_images(folder)
        partition, *attribute_list = find_lists(folder, self.labels == "attributes")
        split_of = {row[0]: SPLIT_OF.get(row[1]) for row in read_rows(partition, 2)}
        label_of: dict[str, Any] = dict.fromkeys(split_of, 0)
        if attribute_list:
            rows = read_rows(attribute_list[0], 1 + len(ATTRIBUTES))
            label_of = {row[0]: [float(value == "1") for value in row[1:]] for row in rows}
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


def find_lists(folder: Path, with_attributes: bool) -> list[Path]:
    """The text files of the split and, if they are needed, the attributes."""
    paths = [folder / "list_eval_partition.txt", *([folder / "list_attr_celeba.txt"] if with_attributes else [])]
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
