"""Avatars: rendered cartoon faces, each with sixteen known attributes and a caption. Nothing is downloaded.

rendering.py  the face of a seed and its attributes
captions.py   the caption of a seed and its attributes
masks.py      the pixels that an attribute changes
styles.py     faces of other styles, as outliers
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from itertools import repeat
from typing import Any, Literal

import numpy as np

from genai.data.avatars.captions import MAX_WORDS, caption, caption_words
from genai.data.avatars.masks import WORDS, attribute_mask
from genai.data.avatars.rendering import ATTRIBUTES, CHOICES, VERSION, attributes, render
from genai.data.base import ImageDataModule, Split
from genai.data.cache import Recipe, Writer
from genai.data.words import CaptionTokens
from genai.errors import UserError, check_at_least

__all__ = ["ATTRIBUTES", "CHOICES", "Avatars", "attributes", "caption", "render"]

FIRST_SEED: dict[Split, int] = {"train": 0, "val": 1_000_000_000, "test": 2_000_000_000}
EVAL_SHARE = 4
CHUNK = 50  # images that a process renders at a time
WORTH_A_POOL = 500  # images that are worth starting processes


class Avatars(ImageDataModule):
    """Cartoon faces (DiceBear's avataaars): `num_images` for train, a quarter as many each for val and test.

    Each face has the attributes ATTRIBUTES, 0 or 1, sampled with the probabilities CHOICES. Image i of a split is the face of
    seed FIRST_SEED[split] + i, whatever `num_images` is. `root` is not used; `seed` is that of the order and the augmentation.

    Args:
        size: of the square images, in pixels. At 64 all attributes are visible; at 32 eyebrows and closed eyes are lost.
        num_images: training images.
        labels: `attributes` (N, 16), or `captions`, sentences that name all attributes, as tokens (N, 48); same images.

    Raises:
        UserError: a number is out of range, or `augment.flip`, which tilts heads to the other side.
    """

    name = "avatars"
    attribute_names = ATTRIBUTES
    padding = "border"

    def __init__(
        self,
        size: int = 64,
        num_images: int = 20_000,
        labels: Literal["attributes", "captions"] = "attributes",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        check_at_least("size", size, 1)
        check_at_least("num_images", num_images, 1)
        if self.augment.flip:
            raise UserError(
                "augment.flip tilts heads to the other side, which is a label: set data.init_args.augment.flip to false"
            )
        self.size = size
        self.num_images = num_images
        self.image_shape = (3, size, size)
        self.label_kind = "text" if labels == "captions" else "attributes"
        self.class_names = caption_words() if labels == "captions" else ATTRIBUTES
        self.num_classes = len(self.class_names)
        self.caption_tokens = CaptionTokens(self.captions, self.class_names, MAX_WORDS) if labels == "captions" else None

    def recipe(self) -> Recipe:
        options = {"size": self.size, "num_images": self.num_images, "version": VERSION}
        source = {package: version(package) for package in ("dicebear-core", "dicebear-styles", "resvg-py")}
        return Recipe(options, source, self.build)

    def counts(self) -> dict[Split, int]:
        """Number of images of each split."""
        num_eval = max(1, self.num_images // EVAL_SHARE)
        return {"train": self.num_images, "val": num_eval, "test": num_eval}

    def seeds(self, split: Split) -> range:
        """The seeds of a split's faces, in order."""
        return range(FIRST_SEED[split], FIRST_SEED[split] + self.counts()[split])

    def attributes(self, split: Split) -> np.ndarray:
        """The attributes of the split's faces, float32 (N, 16), also if the labels are captions."""
        entry = self.cache_entry()
        return entry.labels[entry.rows(split)]

    def captions(self, split: Split) -> list[str]:
        """A caption for each image of the split."""
        return [caption(attributes(seed), seed) for seed in self.seeds(split)]

    def word_masks(self, split: Split, rows: Iterable[int]) -> dict[str, np.ndarray]:
        """The pixels that each word of a caption draws, by the renderer: bool (len(rows), size, size) for a word of WORDS."""
        seeds = [FIRST_SEED[split] + row for row in rows]
        return {word: np.stack([attribute_mask(name, seed, self.size) for seed in seeds]) for word, name in WORDS.items()}

    def build(self, writer: Writer) -> None:
        seeds = [seed for split in FIRST_SEED for seed in self.seeds(split)]
        out = writer.start(len(seeds), self.image_shape)
        with renderers(len(seeds)) as render_faces, writer.progress() as bar:
            for i, image in enumerate(bar.track(render_faces(seeds, self.size), len(seeds), description="rendering avatars")):
                out[i] = image
        labels = np.array([list(attributes(seed).values()) for seed in seeds], np.float32)
        writer.finish(labels, self.counts())


@contextmanager
def renderers(num: int) -> Iterator[Callable[[Iterable[int], int], Iterator[np.ndarray]]]:
    """`render_faces(seeds, size)` yields the faces in order; on all cores if `num` images are worth starting processes."""
    if num < WORTH_A_POOL:
        yield lambda seeds, size: (render({}, seed, size) for seed in seeds)
        return
    with ProcessPoolExecutor() as pool:
        yield lambda seeds, size: pool.map(render, repeat({}), seeds, repeat(size), chunksize=CHUNK)
