"""Features of real images, computed once and kept on disk."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from genai.files import cache_folder, write_atomically
from genai.metrics.features import FeatureNetwork, Features, extract

BATCH_SIZE = 250
SUBSET_SEED = 0  # of the random choice of real images; the same for every model


class RealBatch(Protocol):
    """Images (n, C, H, W) uint8 and labels (n,) int64 or (n, K) float32."""

    @property
    def images(self) -> Tensor: ...
    @property
    def labels(self) -> Tensor: ...


class RealImages(Protocol):
    """A split of real images."""

    @property
    def labels(self) -> np.ndarray: ...
    def __len__(self) -> int: ...
    def batch(self, indices: Any) -> RealBatch: ...


class Subset(NamedTuple):
    """Images of a split; part of the key of a cache entry.

    Attributes:
        data: name of the dataset.
        fingerprint: hash of the split's content.
        split: its name.
        num_images: how many images of it.
    """

    data: str
    fingerprint: str
    split: str
    num_images: int


def subset_indices(total: int, num: int) -> np.ndarray:
    """Indices (min(num, total),) in ascending order: all, or a fixed random choice of `num`."""
    if num >= total:
        return np.arange(total)
    return np.sort(np.random.RandomState(SUBSET_SEED).permutation(total)[:num])


def real_features(images: RealImages, subset: Subset, network: FeatureNetwork) -> Features:
    """Features of `subset.num_images` images, from the cache or computed.

    The key of a cache entry is the data's fingerprint, the split, the number of images, the resize filter, the feature network
    and its weights; a damaged entry is computed again.
    """
    indices = subset_indices(len(images), subset.num_images)
    key = {
        **subset._asdict(),
        "subset_seed": SUBSET_SEED,
        "features": network.name,
        "weights_sha256": network.weights_sha256,
        "resize": network.resize,
        "fields": Features._fields,
    }

    def compute() -> Features:
        starts = range(0, len(indices), BATCH_SIZE)
        return extract(network, (images.batch(indices[i : i + BATCH_SIZE]).images for i in starts))

    return _cached_features(key, compute)


def real_images(images: RealImages, subset: Subset, limit: int) -> Tensor:
    """The first `limit` of a random order of the images of `subset`: uint8 (at most limit, C, H, W)."""
    indices = np.random.RandomState(SUBSET_SEED).permutation(subset_indices(len(images), subset.num_images))
    return images.batch(np.sort(indices[:limit])).images


def cache_path(key: Mapping[str, Any], suffix: str) -> Path:
    """File of the cache entry with this key."""
    digest = hashlib.sha256(_dump(key).encode()).hexdigest()[:16]
    return cache_folder() / "references" / f"{key['data']}-{key['split']}-{Path(key['features']).stem}-{digest}{suffix}"


def _cached_features(key: Mapping[str, Any], compute: Callable[[], Features]) -> Features:
    path = cache_path(key, ".safetensors")
    features = _read(path, key)
    if features is None:
        features = compute()
        tensors = {name: tensor.contiguous() for name, tensor in features._asdict().items() if tensor is not None}
        write_atomically(path, save(tensors, metadata={"key": _dump(key)}))
    return features


def _read(path: Path, key: Mapping[str, Any]) -> Features | None:
    """The cached features; None if there are none, they are damaged or they belong to another key."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("key") != _dump(key):
                return None
            tensors: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return Features(**({"logits": None} | tensors))
    except (OSError, SafetensorError):
        return None


def _dump(key: Mapping[str, Any]) -> str:
    return json.dumps(key, sort_keys=True)
