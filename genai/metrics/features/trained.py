"""Feature networks trained with this suite: classifiers of genai.networks, in .safetensors files with their config."""

import importlib
import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.functional import interpolate

from genai.errors import DamagedFileError, UserError
from genai.files import cache_folder
from genai.images import to_float
from genai.metrics.features.network import FeatureNetwork, Features, sha256_of
from genai.terminal import visible

WEIGHTS = Path(__file__).parents[1] / "weights"
BUILT_IN = tuple(sorted(path.stem for path in WEIGHTS.glob("*.safetensors")))
UTKFACE = "utkface"  # not shipped: its licence does not allow shipping the weights, so each user trains it once
CONFIGS = {UTKFACE: "faces/utkface-features"}  # configs/<this>.yaml trains it; of the others it is configs/NAME/features.yaml


class ClassifierFeatures(nn.Module):
    """A classifier of genai.networks as a feature extractor: scales pixels to [-1, 1] and resizes other sizes."""

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


def names() -> list[str]:
    """The shipped networks, `utkface`, and those in the user's cache."""
    cached = sorted(path.stem for path in (cache_folder() / "features").glob("*.safetensors"))
    return list(dict.fromkeys((*BUILT_IN, UTKFACE, *cached)))


def weights_path(name_or_path: str) -> Path:
    """Where the weights of a feature network are, or would be."""
    if name_or_path in BUILT_IN:
        return WEIGHTS / f"{name_or_path}.safetensors"
    if name_or_path.endswith(".safetensors"):
        return Path(name_or_path)
    return cache_folder() / "features" / f"{name_or_path}.safetensors"


def load(name: str, path: Path | None = None) -> FeatureNetwork:
    """The feature network `name`, from `path` or its default file.

    Raises:
        UserError: the file is missing, damaged, or not a feature network of this suite.
    """
    path = path or weights_path(name)
    metadata, state = _read(name, path)
    sha256 = sha256_of(path)
    check_card(path, sha256)
    try:
        spec = json.loads(metadata["network"])
        network = _build(path, spec["class_path"], spec["init_args"])
        network.load_state_dict(state)
        channels, height, width = spec["init_args"]["image_shape"]
        class_names, num_classes = read_names(metadata["class_names"]), int(spec["init_args"]["num_classes"])
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:  # metadata of another kind
        reason = str(error).split("\n")[0]
        raise UserError(f"{path} is damaged ({type(error).__name__}: {reason}): {_how_to_train(name)}") from None
    return FeatureNetwork(
        name=name,
        embed=ClassifierFeatures(network, (height, width)),
        channels=channels,
        resize=f"antialiased bilinear to {height}x{width} (other sizes only)",
        weights_sha256=sha256,
        task="attributes" if metadata["task"] == "attributes" else "class",
        class_names=class_names,
        num_classes=num_classes,
    )


def read_names(text: str) -> tuple[str, ...]:
    """The names of classes in a JSON list, as they can be printed; ValueError for anything else."""
    found = json.loads(text)
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise ValueError("class_names are no list of names")
    return tuple(map(visible, found))


def check_card(path: Path, sha256: str) -> None:
    """Raise DamagedFileError where the card beside a weights file, which `genai export-features` wrote, has another SHA-256.

    safetensors has no checksum of its own: a flipped bit would change scores and nothing else.
    """
    card = path.with_suffix(".md")
    found = (
        re.search(r"^\| sha256 \| `([0-9a-f]{64})` \|$", card.read_text("utf-8", "replace"), re.M) if card.is_file() else None
    )
    if found and found[1] != sha256:
        raise DamagedFileError(
            f"{path} does not fit the sha256 in {card.name}: copy both again, or `genai export-features` them again"
        )


def _read(name: str, path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and state dict of a weights file."""
    if not path.is_file():
        raise UserError(f"the feature network `{name}` has no weights at {path}: {_how_to_train(name)}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f"{path} is damaged ({error}): {_how_to_train(name)}") from error
    if not {"network", "class_names", "task"} <= metadata.keys():
        raise UserError(f"{path} is not a feature network of this suite (no metadata): {_how_to_train(name)}")
    return metadata, state


def _how_to_train(name: str) -> str:
    if name in (*BUILT_IN, UTKFACE):
        config = CONFIGS.get(name, f"{name}/features")
        return f"train it with `genai fit -c configs/{config}.yaml`, then `genai export-features RUN {name}`"
    return "give the path of a feature network that `genai export-features` wrote"


def _build(path: Path, class_path: str, init_args: dict[str, Any]) -> nn.Module:
    """Instantiate the network that a weights file names; only classes of genai.networks are allowed."""
    module, _, name = class_path.rpartition(".")
    if not module.startswith("genai.networks."):
        raise UserError(f"{path} names the class {class_path}: weights files may name classes of genai.networks only")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:
        found = None
    if not (isinstance(found, type) and issubclass(found, nn.Module) and found.__module__ == module):
        raise UserError(
            f"{path} names the class {class_path}, which genai.networks does not define: use weights of this version"
        )
    with torch.random.fork_rng(devices=[]):  # the initial weights use the global generator
        network: nn.Module = found(**init_args)
    return network
