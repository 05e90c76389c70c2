"""Nearest training images of samples, in pixel space: samples that copy them are closer than real test images."""

from typing import NamedTuple

import torch
from torch import Tensor

from genai.data.base import ImageArray
from genai.images import to_uint8

CHUNK = 2000  # training images compared at once


class Neighbours(NamedTuple):
    """The k nearest training images of N images: pixels uint8 (N, k, C, H, W), distances (N, k) and their rows (N, k).

    A distance is the root mean square difference of pixels and channels, in units of 0 to 255.
    """

    images: Tensor
    distances: Tensor
    rows: Tensor


def nearest(images: Tensor, train: ImageArray, k: int) -> Neighbours:
    """The `k` images of a training split that are nearest to each of `images`, uint8 (N, C, H, W)."""
    queries = images.flatten(1).float()
    distances = torch.full((len(images), k), torch.inf)
    rows = torch.zeros(len(images), k, dtype=torch.long)
    for part in torch.arange(len(train)).split(CHUNK):
        candidates = as_uint8(train, part).flatten(1).float()
        found = torch.cdist(queries, candidates) / queries.shape[1] ** 0.5  # (N, CHUNK)
        together = torch.cat([distances, found], dim=1)
        distances, order = together.topk(min(k, together.shape[1]), largest=False)
        rows = torch.cat([rows, part.expand(len(images), -1)], dim=1).gather(1, order)
    return Neighbours(torch.stack([as_uint8(train, own) for own in rows]), distances, rows)


def as_uint8(split: ImageArray, rows: Tensor) -> Tensor:
    """Images of a split, uint8 (len(rows), C, H, W)."""
    images = split.batch(rows).images
    return to_uint8(images) if images.is_floating_point() else images
