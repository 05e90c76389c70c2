"""scikit-learn's handwritten digits: 1,797 real images of 8x8 that come with the library, so nothing is downloaded."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from genai.data.arrays import check_subset
from genai.data.base import ImageDataModule
from genai.data.cache import Recipe, Writer
from genai.errors import check_at_least

VAL, TEST = 350, 350


class Digits(ImageDataModule):
    """The UCI optical digits test set: 1,097 / 350 / 350 images for train, val and test, stratified (scikit-learn, seed 0).

    `root` is not used: the images come with scikit-learn.

    Args:
        size: 8, or larger for networks that need more pixels (bicubic).
        exclude: digits that train and val leave out; the test split has them all.
        num_train: number of training images to keep, as many of each class; default: all.
        class_shares: relative shares of the classes among the training images, one number for each class; the images are the
            first of each class, as many as these shares allow. Default: the shares of the data.
    """

    name = "digits"
    num_classes = 10
    label_kind = "class"
    class_names = tuple("0123456789")

    def __init__(
        self,
        size: int = 8,
        *,
        exclude: Sequence[int] = (),
        num_train: int | None = None,
        class_shares: Sequence[float] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        check_at_least("size", size, 1)
        check_subset(exclude, num_train, self.num_classes, class_shares)
        self.size = size
        self.image_shape = (1, size, size)
        self.exclude = exclude
        self.num_train = num_train
        self.class_shares = class_shares

    def recipe(self) -> Recipe:
        return Recipe({"size": self.size}, "sklearn.datasets.load_digits", self.build)

    def build(self, writer: Writer) -> None:
        from sklearn.datasets import load_digits  # takes a second to import, and is needed only if the cache is empty
        from sklearn.model_selection import train_test_split

        digits = load_digits()
        pixels = torch.from_numpy(digits.images).float()[:, None] * (255 / 16)  # values are 0..16
        if self.size != 8:
            pixels = interpolate(pixels, size=(self.size, self.size), mode="bicubic", align_corners=False)
        rest, test = train_test_split(np.arange(1797), test_size=TEST, stratify=digits.target, random_state=0)
        train, val = train_test_split(rest, test_size=VAL, stratify=digits.target[rest], random_state=0)
        order = np.concatenate([train, val, test])
        writer.start(len(order), self.image_shape)[:] = pixels.round().clamp(0, 255).byte().numpy()[order]
        writer.finish(digits.target[order].astype(np.int64), {"train": len(train), "val": VAL, "test": TEST})
