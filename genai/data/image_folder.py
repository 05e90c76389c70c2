"""A user's own images: a folder, zip or tar."""

from pathlib import Path, PurePosixPath
from typing import Any, Literal

from genai.data import archives
from genai.data.cache import Recipe
from genai.data.file_types import describe_ignored
from genai.data.photos import Photos, Plan, identity, split_by_group, split_by_hash
from genai.data.sources import find_source
from genai.errors import UserError

RULES = 3  # version of the rules: which files are images, in which split, with which values


class ImageFolder(Photos):
    """The images of a folder and its subfolders, of a zip or of a tar, without labels.

    About a tenth of them is the test split and a tenth the val split, at least a twentieth and two of six or more. An image's
    split depends on its path inside the folder or archive, so in a large set it stays where it is when others are added or
    removed. Whatever Pillow reads is an image, whatever its ending; HEIC needs the package pillow-heif. Other files are
    counted by their ending. Hidden and system folders (`.ipynb_checkpoints`, `__MACOSX`, `@eaDir`, ...) are ignored.

    Args:
        root: the folder, zip or tar: a path, or one relative to $GENAI_DATA or data/.
        group_by: `image`, or `folder` to keep all images of a folder in one split: of one person, say, if each has a folder.

    Raises:
        UserError: an option is out of range.
    """

    name = "image-folder"

    def __init__(
        self,
        root: str,
        *,
        group_by: Literal["image", "folder"] = "image",
        **options: Any,
    ) -> None:
        super().__init__(root=root, **options)
        self.group_by = group_by

    def recipe(self) -> Recipe:
        path = self.find()
        options = {"path": str(path), "shape": self.image_shape, "strict": self.strict, "group_by": self.group_by}
        options |= {"rules": RULES, "bit_depth": self.bit_depth}
        return Recipe(options, identity(path), self.build)

    def find(self) -> Path:
        """The folder or archive.

        Raises:
            UserError: there is none.
        """
        return find_source(str(self.root), "folder or archive")

    def plan(self) -> Plan:
        path = self.find()
        names, ignored = archives.list_files(path)
        if len(names) < 3:
            others = f" (ignored {describe_ignored(ignored)})" if ignored else ""
            raise UserError(f"{path} has {len(names)} images{others}, and training needs three, one for each split: add images")
        if self.group_by == "image":
            return Plan(path, split_by_hash(names, lambda name: str(PurePosixPath(name))), ignored=ignored)
        folders = {folder_of(name) for name in names}
        if len(folders) < 3:
            raise UserError(
                f"{path} has images in {len(folders)} folders, and group_by: folder needs three, one for each split: "
                "set group_by: image"
            )
        return Plan(path, split_by_group(names, folder_of), ignored=ignored)


def folder_of(name: str) -> str:
    """The folder of an image, relative to the source."""
    return str(PurePosixPath(name).parent)
