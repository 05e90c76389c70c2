"""One split of a dataset in memory: images and labels as arrays, and the choice of its rows."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from genai.errors import UserError

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


class Batch(NamedTuple):
    """A batch of images and labels.

    images: (N, C, H, W), uint8 on the loaders, float32 in [-1, 1] after the transfer to the device.
    labels: (N,) int64 classes; (N, K) float32 attributes, 0 or 1; (N, L) int64 tokens of a caption, 0 for padding; or (N,)
        zeros for data without labels.
    """

    images: Tensor
    labels: Tensor


class ImageArray(Dataset[Batch]):
    """One split: `images` uint8 (N, C, H, W), memory-mapped, and `labels` (N,), (N, K) or (N, L)."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images = images
        self.labels = labels
        self._images = np.asarray(images)  # a plain view: np.memmap adds bookkeeping to each operation

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Batch:
        """One image, uint8 (C, H, W), and its label."""
        return Batch(torch.from_numpy(self._images[index]), torch.as_tensor(self.labels[index]))

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """DataLoader's protocol for a whole batch in one call."""
        return self.batch(indices)

    def batch(self, indices: Any) -> Batch:
        """The images and labels at `indices`, in that order: uint8 (len(indices), C, H, W) and (len(indices), ...)."""
        # NumPy's take, because torch's threads cost more than they save in copies this small
        return Batch(torch.from_numpy(self._images.take(indices, axis=0)), torch.from_numpy(self.labels.take(indices, axis=0)))


def check_subset(exclude: Sequence[int], num_train: int | None, num_classes: int) -> None:
    """Check the options `exclude` and `num_train` of a data module.

    Raises:
        UserError: `exclude` has an unknown class or all of them, or `num_train` is below 1.
    """
    unknown = [k for k in exclude if not 0 <= k < num_classes]
    if unknown or (exclude and len(set(exclude)) == num_classes):
        raise UserError(f"exclude {list(exclude)} should name some of the classes 0 to {num_classes - 1}, not all")
    if num_train is not None and num_train < 1:
        raise UserError(f"num_train {num_train} leaves no training images: use 1 or more")


def select_rows(labels: np.ndarray, split: Split, exclude: Sequence[int], num_train: int | None) -> np.ndarray | None:
    """Indices of the rows that a split keeps of its labels (N,); None for all.

    The classes `exclude` are removed from train and val, never from test. Then train keeps `num_train` images, see `balanced`.
    """
    rows = None
    if exclude and split != "test":
        rows = np.flatnonzero(~np.isin(labels, exclude))
    if num_train is not None and split == "train":
        rows = np.arange(len(labels)) if rows is None else rows
        rows = rows[balanced(labels[rows], num_train)]
    return rows


def balanced(labels: np.ndarray, num: int) -> np.ndarray:
    """Indices, ascending, of the first `num` images of labels (N,), as many of each class as there are."""
    rank = np.empty(len(labels), np.int64)  # of an image within its class
    for k in np.unique(labels):
        rank[labels == k] = np.arange((labels == k).sum())
    return np.sort(np.argsort(rank, kind="stable")[:num])
