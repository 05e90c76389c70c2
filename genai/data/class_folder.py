"""A user's own images with classes: one folder for each class."""

from pathlib import Path, PurePosixPath
from typing import Any

from genai.data import archives
from genai.data.cache import Recipe
from genai.data.photos import Photos, Plan, identity, split_by_hash
from genai.data.sources import classes_of, find_source
from genai.errors import UserError

SPLIT_NAMES = {"train", "training", "test", "testing", "val", "valid", "validation"}


class ClassFolder(Photos):
    """The images of a folder, zip or tar that has one folder for each class: `cat/1.png`, `cat/2.png`, `dog/1.png`, ...

    The names of the folders are the classes. One folder around all of them, as archives often have, is ignored. Splits are
    those of `ImageFolder`, which is for images without classes.

    Args:
        root: the folder, zip or tar: a path, or one relative to $GENAI_DATA or data/.

    Raises:
        UserError: there is no such source, it has images outside of a class's folder, or its folders are splits.
    """

    name = "class-folder"
    label_kind = "class"

    def __init__(self, root: str, **options: Any) -> None:
        super().__init__(root=root, **options)
        self.path = find_source(root, "folder or archive")
        self.class_names = classes_of(folders_of(archives.list_files(self.path).names, self.path).values(), self.path)
        self.num_classes = len(self.class_names)

    def recipe(self) -> Recipe:
        options: dict[str, Any] = {"path": str(self.path), "shape": self.image_shape}
        options |= {"strict": self.strict, "classes": self.class_names}
        options |= {} if self.bit_depth is None else {"bit_depth": self.bit_depth}
        return Recipe(options, identity(self.path), self.build)

    def plan(self) -> Plan:
        names, ignored = archives.list_files(self.path)
        if len(names) < 3:
            raise UserError(f"{self.path} has {len(names)} images, and training needs three, one for each split: add images")
        classes = folders_of(names, self.path)
        labels = {name: self.class_names.index(folder) for name, folder in classes.items()}
        return Plan(self.path, split_by_hash(names, lambda name: str(PurePosixPath(name))), labels, ignored=ignored)


def folders_of(names: list[str], source: Path) -> dict[str, str]:
    """The class of each image by its path: the first folder in which they differ.

    Raises:
        UserError: an image is in no folder, all are in one, or the folders are named after splits, as in `train/cat/1.png`.
    """
    parts = {name: PurePosixPath(name).parts for name in names}
    outer = 0
    while all(len(path) > outer + 1 for path in parts.values()) and len({path[outer] for path in parts.values()}) == 1:
        outer += 1
    if outer and all(len(path) == outer + 1 for path in parts.values()):
        only = "/".join(next(iter(parts.values()))[:outer])
        raise UserError(f"{source} has one class, {only}: add a folder for each of the others, or use ImageFolder")
    outside = next((name for name, path in parts.items() if len(path) < outer + 2), None)
    if outside:
        fix = "put it into the folder of its class, or use ImageFolder"
        raise UserError(f"{source} has {outside} outside of a folder: {fix}")
    classes = {name: path[outer] for name, path in parts.items()}
    if all(folder.lower() in SPLIT_NAMES for folder in classes.values()):
        found = ", ".join(sorted(set(classes.values())))
        raise UserError(
            f"{source} has the folders {found}, which are splits and no classes: set root to one of them, or put the "
            "folders of the classes together; genai makes the splits itself"
        )
    return classes
