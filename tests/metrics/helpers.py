"""Small stand-ins: random images, a random feature network on disk, data that look like a data module."""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from genai.metrics.features import Features
from genai.networks.convnet import ConvNet


def write_network(path: Path, seed: int = 0, image_shape=(1, 8, 8), task="class", dtype=torch.float32) -> Path:
    """A randomly initialised feature network of 3 classes and 6 features."""
    init_args = {"image_shape": list(image_shape), "num_classes": 3, "channels": [4, 6]}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ConvNet(**init_args)
        torch.nn.init.normal_(network.logits.weight)
    spec = {"class_path": "genai.networks.convnet.ConvNet", "init_args": init_args}
    metadata = {"network": json.dumps(spec), "class_names": json.dumps(["0", "1", "2"]), "task": task}
    state = {key: value.to(dtype) if value.is_floating_point() else value for key, value in network.state_dict().items()}
    save_file({key: value.contiguous() for key, value in state.items()}, path, metadata)
    return path


def random_features(num: int, dim: int, seed: int, shift: float = 0.0, classes: int = 10) -> Features:
    """Correlated features of a lower rank, as after a ReLU, and logits."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dim, dim, generator=torch.Generator().manual_seed(99)) / dim**0.5
    pool = (torch.randn(num, dim, generator=generator) @ mixing + shift).relu()
    return Features(pool, 3 * torch.randn(num, classes, generator=generator))


def random_images(num: int, seed: int, shape=(1, 8, 8)) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (num, *shape), generator=generator, dtype=torch.uint8)


class FakeBatch(NamedTuple):
    images: Tensor
    labels: Tensor


class FakeSplit:
    def __init__(self, num: int, seed: int, shape=(1, 8, 8)) -> None:
        self.images = random_images(num, seed, shape)
        self.labels = np.arange(num) % 3

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices) -> FakeBatch:
        indices = torch.as_tensor(indices)
        return FakeBatch(self.images[indices], torch.from_numpy(self.labels)[indices])


class FakeData:
    """What measuring needs of a data module."""

    name = "fake"
    label_kind = "class"
    class_names = ("0", "1", "2")

    def __init__(self, train=120, val=60, test=80, shape=(1, 8, 8)) -> None:
        sizes = {"train": train, "val": val, "test": test}
        self.image_shape = shape
        self.splits = {name: FakeSplit(num, seed, shape) for seed, (name, num) in enumerate(sizes.items(), start=1)}

    def split(self, name: str) -> FakeSplit:
        return self.splits[name]

    def fingerprint(self, split: str) -> str:
        return hashlib.sha256(self.splits[split].images.numpy().tobytes()).hexdigest()[:16]
