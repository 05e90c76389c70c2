"""Feature networks: frozen, in float32, from uint8 images to the features that scores are computed on.

`mnist`, `digits` and `avatars` are trained by this suite and shipped; `stacked-mnist` is `mnist` on each of three channels;
`utkface` is trained once into the cache; `inception` is torch-fidelity's InceptionV3, the network of the published FID
figures. A path to a .safetensors file works as well. A feature network is no nn.Module, so it can never become a part of a
model by accident.
"""

import hashlib
import importlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.functional import interpolate

from genai.errors import UserError
from genai.images import to_float
from genai.metrics.cache import cache_folder

SHIPPED = ("mnist", "digits", "avatars")
STACKED = "stacked-mnist"
BUILT_IN = (*SHIPPED, STACKED)  # each called like its data
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION_FILE}"
INCEPTION_HASH = "6726825d"
CONNECT_SECONDS = 5.0


class Features(NamedTuple):
    """What a feature network says of N images."""

    pool: Tensor  # (N, D) float32
    logits: Tensor | None  # (N, K) float32; None where the network classifies nothing

    def cpu(self) -> "Features":
        return Features(self.pool.cpu(), None if self.logits is None else self.logits.cpu())


@dataclass(frozen=True)
class FeatureNetwork:
    """A frozen feature network, always in eval mode, float32 and outside autocast.

    Grey images are repeated to three channels where the network wants colour (`repeat_grey`); colour images are refused
    by a grey network. Images of another size are resized with the filter that `resize` names.

    Attributes:
        name: as given to `load_extractor`.
        embed: uint8 images (N, channels, H, W) -> `Features`.
        channels: 1 or 3, what the network wants.
        resize: resize filter and size, e.g. "antialiased bilinear to 28x28 (other sizes only)".
        weights_sha256: of the weights file.
        task: "class" (logits of exclusive classes) or "attributes" (one logit per binary attribute).
        class_names: names of the classes or attributes; empty where they are no classes of our data (Inception).
        num_classes: number of logits.
        repeat_grey: whether a grey image may stand for one of `channels` equal channels; refused otherwise.
    """

    name: str
    embed: nn.Module
    channels: int
    resize: str
    weights_sha256: str
    task: Literal["class", "attributes"]
    class_names: tuple[str, ...]
    num_classes: int
    repeat_grey: bool = True

    def __post_init__(self) -> None:
        self.embed.float().eval().requires_grad_(False)

    @property
    def has_classes(self) -> bool:
        """Whether the logits are exclusive classes with names, so that samples can be counted by class."""
        return self.task == "class" and bool(self.class_names)

    def to(self, device: torch.device | str) -> "FeatureNetwork":
        self.embed.to(device)
        return self

    def __call__(self, images: Tensor) -> Features:
        """uint8 images (N, C, H, W) -> `Features`, on the network's device.

        Raises:
            UserError: images of another number of channels, grey ones for a network that repeats them excepted.
        """
        device = next(self.embed.parameters()).device
        with torch.no_grad(), full_precision(device.type):
            features: Features = self.embed(self._adapt_channels(images).to(device))
        return features

    def _adapt_channels(self, images: Tensor) -> Tensor:
        if images.shape[1] == self.channels:
            return images
        if images.shape[1] == 1 and self.repeat_grey:
            return images.expand(-1, self.channels, -1, -1)
        raise UserError(
            f"the feature network `{self.name}` reads images of {self.channels} channel(s), these have "
            f"{images.shape[1]}: choose another, e.g. `inception`"
        )


def extract(network: FeatureNetwork, batches: Iterable[Tensor]) -> Features:
    """Features of all images of all `batches` (each uint8 (n, C, H, W)), in order, on the CPU."""
    return concatenate([network(images).cpu() for images in batches])


def concatenate(parts: Sequence[Features]) -> Features:
    """Features of several batches -> of all their images, in order."""
    logits = [part.logits for part in parts if part.logits is not None]
    return Features(torch.cat([part.pool for part in parts]), torch.cat(logits) if logits else None)


def load_extractor(name_or_path: str, weights: str | Path | None = None) -> FeatureNetwork:
    """Load a feature network.

    Args:
        name_or_path: `mnist`, `digits`, `avatars`, `stacked-mnist`, `utkface`, `inception` or the path of a .safetensors file.
        weights: a weights file to use in the place of the usual one. For `inception`, after this come $GENAI_INCEPTION,
            torch.hub's cache and a download.

    Raises:
        UserError: the name is unknown, or the weights are missing, damaged or of another network.
    """
    if name_or_path == "inception":
        return _load_inception(_inception_weights(weights))
    if name_or_path == STACKED:
        return _load_stacked(Path(weights) if weights else _small_weights("mnist"))
    return _load_small(name_or_path, Path(weights) if weights else _small_weights(name_or_path))


# ---------------------------------------------------------------------------------------------------------------------
# The suite's own networks


class _Small(nn.Module):
    """A network of genai.networks as a feature network: pixels to [-1, 1], resized where needed."""

    def __init__(self, network: nn.Module, size: tuple[int, int]) -> None:
        super().__init__()
        self.network: Any = network
        self.size = size

    def forward(self, images: Tensor) -> Features:
        x = to_float(images)
        if x.shape[-2:] != self.size:
            x = interpolate(x, self.size, mode="bilinear", antialias=True)
        pool = self.network.features(x)
        return Features(pool, self.network.logits(pool))


def _small_weights(name_or_path: str) -> Path:
    if name_or_path in SHIPPED:
        return Path(__file__).parent / "weights" / f"{name_or_path}.safetensors"
    if name_or_path == "utkface":
        return cache_folder() / "features" / "utkface.safetensors"
    if name_or_path.endswith(".safetensors"):
        return Path(name_or_path)
    names = ", ".join((*BUILT_IN, "utkface", "inception"))
    raise UserError(f"no feature network is called `{name_or_path}`: choose {names} or the path of a .safetensors file")


def _load_small(name: str, path: Path) -> FeatureNetwork:
    metadata, state = _read_safetensors(name, path)
    spec = json.loads(metadata["network"])
    network = _build(path, spec["class_path"], spec["init_args"])
    network.load_state_dict(state)
    channels, height, width = spec["init_args"]["image_shape"]
    return FeatureNetwork(
        name=name,
        embed=_Small(network, (height, width)),
        channels=channels,
        resize=f"antialiased bilinear to {height}x{width} (other sizes only)",
        weights_sha256=_sha256(path),
        task="attributes" if metadata["task"] == "attributes" else "class",
        class_names=tuple(json.loads(metadata["class_names"])),
        num_classes=spec["init_args"]["num_classes"],
    )


def _read_safetensors(name: str, path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    if not path.is_file():
        raise UserError(f"the feature network `{name}` has no weights at {path}: {_how_to_train(name)}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f"{path} is damaged ({error}): {_how_to_train(name)}") from error
    if not {"network", "class_names", "task"} <= metadata.keys():
        raise UserError(f"{path} holds no feature network of this suite (its header names none): {_how_to_train(name)}")
    return metadata, state


def _how_to_train(name: str) -> str:
    config = "faces/utkface-features" if name == "utkface" else f"{name}/features"
    if name in (*SHIPPED, "utkface"):
        return f"train it with `genai fit -c configs/{config}.yaml`, then `genai ship RUN {name}`"
    return "give the path of a feature network exported by this suite"


def _build(path: Path, class_path: str, init_args: dict[str, Any]) -> nn.Module:
    module, _, name = class_path.rpartition(".")
    if not module.startswith("genai.networks."):
        raise UserError(f"{path} names the class {class_path}: weights files may name classes of genai.networks only")
    with torch.random.fork_rng(devices=[]):  # initial weights draw from the global generator
        network: nn.Module = getattr(importlib.import_module(module), name)(**init_args)
    return network


# ---------------------------------------------------------------------------------------------------------------------
# Stacked MNIST


class _Stacked(nn.Module):
    """Three digits as three channels (Metz et al. 2017, arXiv:1611.02163), each channel read by a network of single digits.

    Features are the channels' side by side, logits the log-probabilities of triples, the first channel the most significant.
    """

    def __init__(self, digit: nn.Module) -> None:
        super().__init__()
        self.digit = digit

    def forward(self, images: Tensor) -> Features:
        channels = images.shape[:2]  # (N, 3)
        digits: Features = self.digit(images.flatten(0, 1).unsqueeze(1))  # of 3N grey images
        assert digits.logits is not None
        a, b, c = digits.logits.log_softmax(dim=1).unflatten(0, channels).unbind(dim=1)  # (N, K) each
        triples = a[:, :, None, None] + b[:, None, :, None] + c[:, None, None, :]  # (N, K, K, K)
        return Features(digits.pool.unflatten(0, channels).flatten(1), triples.flatten(1))  # (N, 3D), (N, K^3)


def _load_stacked(path: Path) -> FeatureNetwork:
    digit = _load_small("mnist", path)
    class_names = tuple("".join(triple) for triple in product(digit.class_names, repeat=3))
    return FeatureNetwork(
        name=STACKED,
        embed=_Stacked(digit.embed),
        channels=3,
        resize=digit.resize,
        weights_sha256=digit.weights_sha256,
        task="class",
        class_names=class_names,
        num_classes=len(class_names),
        repeat_grey=False,
    )


# ---------------------------------------------------------------------------------------------------------------------
# Inception


class _Inception(nn.Module):
    """torch-fidelity's InceptionV3: it resizes as TensorFlow 1 did, which published figures rest on."""

    def __init__(self, weights: Path) -> None:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        super().__init__()
        self.network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"], str(weights))

    def forward(self, images: Tensor) -> Features:
        return Features(*self.network(images))


def _load_inception(weights: Path) -> FeatureNetwork:
    try:
        torch.load(weights, map_location="cpu", weights_only=True)  # torch-fidelity would run what is pickled inside
        with torch.random.fork_rng(devices=[]):
            embed = _Inception(weights)
    except Exception as error:  # reading rubbish as a pickle raises anything
        raise UserError(f"{weights} holds no Inception weights of torch-fidelity: download {INCEPTION_URL}") from error
    return FeatureNetwork(
        name="inception",
        embed=embed,
        channels=3,
        resize="bilinear of TensorFlow 1 to 299x299",
        weights_sha256=_sha256(weights),
        task="class",
        class_names=(),
        num_classes=1008,
    )


def _inception_weights(given: str | Path | None) -> Path:
    given = given or os.environ.get("GENAI_INCEPTION")
    if given:
        if not Path(given).is_file():
            raise UserError(f"there are no Inception weights at {given}: download {INCEPTION_URL}, or use `mnist`")
        return Path(given)
    cached = Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE
    if not cached.is_file():
        _download_inception(cached)
    return cached


def _download_inception(target: Path) -> None:
    from urllib.request import urlopen

    try:
        urlopen(INCEPTION_URL, timeout=CONNECT_SECONDS).close()  # torch.hub waits without limit
        target.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(INCEPTION_URL, str(target), hash_prefix=INCEPTION_HASH)
    except OSError as error:
        raise UserError(
            f"`inception` has no weights and they cannot be downloaded ({error}): put {INCEPTION_URL} into "
            f"{target.parent} or name the file in $GENAI_INCEPTION, or use the shipped feature network `mnist`"
        ) from error


# ---------------------------------------------------------------------------------------------------------------------


@contextmanager
def full_precision(device_type: str) -> Iterator[None]:
    """float32 as it is written: no autocast, no TF32, no bf16 matrix products."""
    root: Any = torch.backends
    backends = (root.cuda.matmul, root.cudnn.conv, root.mkldnn.matmul, root.mkldnn.conv)
    precisions = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        with torch.autocast(device_type, enabled=False):
            yield
    finally:
        for backend, precision in zip(backends, precisions, strict=True):
            backend.fp32_precision = precision


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
