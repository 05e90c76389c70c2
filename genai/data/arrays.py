"""One split of a dataset in memory: images and labels as arrays, and the choice of its rows."""

import math
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


def check_subset(
    exclude: Sequence[int], num_train: int | None, num_classes: int, class_shares: Sequence[float] | None = None
) -> None:
    """Check the options `exclude`, `num_train` and `class_shares` of a data module.

    Raises:
        UserError: `exclude` has an unknown class or all of them, `num_train` is below 1, or `class_shares` are not one share of
            0 or more for each class, some of them positive.
    """
    shares = class_shares
    if shares is not None and (len(shares) != num_classes or not all(0 <= s < math.inf for s in shares) or not sum(shares)):
        raise UserError(f"class_shares {list(shares)} should be {num_classes} shares of 0 or more, one for each class")
    unknown = [k for k in exclude if not 0 <= k < num_classes]
    if unknown or (exclude and len(set(exclude)) == num_classes):
        raise UserError(f"exclude {list(exclude)} should name some of the classes 0 to {num_classes - 1}, not all")
    if num_train is not None and num_train < 1:
        raise UserError(f"num_train {num_train} leaves no training images: use 1 or more")


def select_rows(
    labels: np.ndarray,
    split: Split,
    exclude: Sequence[int],
    num_train: int | None,
    class_shares: Sequence[float] | None = None,
) -> np.ndarray | None:
    """Indices of the rows that a split keeps of its labels (N,); None for all.

    The classes `exclude` are removed from train and val, never from test. Then train keeps `num_train` images, see `balanced`,
    or images with `class_shares`, see `with_shares`.
    """
    rows = None
    if exclude and split != "test":
        rows = np.flatnonzero(~np.isin(labels, exclude))
    if (num_train is not None or class_shares is not None) and split == "train":
        rows = np.arange(len(labels)) if rows is None else rows
        num = len(rows) if num_train is None else num_train
        own = labels[rows]
        rows = rows[balanced(own, num) if class_shares is None else with_shares(own, class_shares, num)]
    return rows


def balanced(labels: np.ndarray, num: int) -> np.ndarray:
    """Indices, ascending, of the first `num` images of labels (N,), as many of each class as there are."""
    rank = np.empty(len(labels), np.int64)  # of an image within its class
    for k in np.unique(labels):
        rank[labels == k] = np.arange((labels == k).sum())
    return np.sort(np.argsort(rank, kind="stable")[:num])


def with_shares(labels: np.ndarray, class_shares: Sequence[float], num: int) -> np.ndarray:
    """Indices, ascending, of the first images of each class of labels (N,), so that the classes have the given shares.

    As many images as there are enough of every class for, at most `num`; counts are rounded down.
    """
    shares = np.asarray(class_shares) / np.sum(class_shares)
    available = np.bincount(labels, minlength=len(shares))
    total = min(num, *(available[shares > 0] / shares[shares > 0]))
    counts = np.floor(total * shares + 1e-9).astype(int)
    return np.sort(np.concatenate([np.flatnonzero(labels == k)[:count] for k, count in enumerate(counts)]))


def class_balanced(labels: np.ndarray, seed: Sequence[int]) -> np.ndarray:
    """As many indices (N,) as labels (N,), so that each class has N / K of them, up to one.

    The images of a class are repeated, or left out, equally often, up to one; which ones are left out depends on `seed`.
    """
    random = np.random.default_rng(seed)
    members = [random.permutation(np.flatnonzero(labels == k)) for k in np.unique(labels)]
    counts = np.full(len(members), len(labels) // len(members))
    counts[random.permutation(len(members))[: len(labels) % len(members)]] += 1
    return np.concatenate([np.resize(own, count) for own, count in zip(members, counts, strict=True)])
