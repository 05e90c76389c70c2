"""The Olivetti faces: ten grey photographs of each of 40 people, from scikit-learn."""

from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from genai.data import cache
from genai.data.augment import Augment
from genai.data.base import ImageDataModule, data_roots
from genai.data.decoding import to_array
from genai.errors import UserError

PEOPLE = tuple(f"person {i}" for i in range(40))


class Olivetti(ImageDataModule):
    """400 photographs: each person's ninth is in val, the tenth in test, the first eight in train (320 / 40 / 40).

    scikit-learn's file is downloaded if no root has it.

    Args:
        size: of the square images, in pixels; the originals have 64.
        channels: 3 (grey in RGB), or 1.
        labels: `none`, or `person`: 40 classes.
        root: the data folder; default: $GENAI_DATA, then data/.
    """

    name = "olivetti"
    padding = "border"

    def __init__(
        self,
        size: int = 64,
        channels: Literal[1, 3] = 3,
        labels: Literal["none", "person"] = "none",
        root: str | None = None,
        batch_size: int = 128,
        num_workers: int = 0,
        seed: int | None = None,
        augment: Augment | None = None,
    ) -> None:
        super().__init__(root, batch_size, num_workers, seed, augment)
        self.size = size
        self.channels = channels
        self.labels = labels
        self.image_shape = (channels, size, size)
        self.label_kind = "class" if labels == "person" else "none"
        self.class_names = PEOPLE if labels == "person" else ()
        self.num_classes = len(self.class_names)

    def recipe(self) -> cache.Recipe:
        options = {"where": self.name, "shape": self.image_shape, "labels": self.labels, "strict": False}
        return cache.Recipe(options, cache.identity(find_file(self.root)), self.build)

    def build(self, writer: cache.Writer) -> None:
        from sklearn.datasets import fetch_olivetti_faces  # takes a second to import, and is needed only if the cache is empty

        file = find_file(self.root)
        try:
            faces = fetch_olivetti_faces(data_home=str(file.parent), download_if_missing=False)
        except Exception as error:  # unpickling raises nearly anything on damaged bytes
            raise UserError(f"{file} is damaged ({error}): delete it to download it again") from None
        number = np.arange(len(faces.images)) % 10  # of the photograph of its person
        order = np.concatenate([np.flatnonzero(number < 8), np.flatnonzero(number == 8), np.flatnonzero(number == 9)])
        out = writer.start(len(order), self.image_shape)
        for row, i in enumerate(order):
            grey = Image.fromarray(np.rint(faces.images[i] * 255).astype(np.uint8))
            out[row] = to_array(grey, self.size, self.channels)
        labels = faces.target[order] if self.labels == "person" else np.zeros(len(order))
        writer.finish(labels.astype(np.int64), {"train": int((number < 8).sum()), "val": 40, "test": 40})


def find_file(root: str | None) -> Path:
    """scikit-learn's file, downloaded if no root has it."""
    candidates = [folder / name for folder in data_roots(root) for name in ("olivetti/olivetti_py3.pkz", "olivetti_py3.pkz")]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        found = candidates[0]
        download(found)
    return found


def download(file: Path) -> None:
    """scikit-learn's download."""
    from sklearn.datasets import fetch_olivetti_faces

    try:
        fetch_olivetti_faces(data_home=str(file.parent), n_retries=0)
    except OSError as error:
        raise UserError(
            f"the Olivetti faces are not there and could not be downloaded ({error}): put scikit-learn's olivetti_py3.pkz at "
            f"{file}; Avatars needs no download"
        ) from None
