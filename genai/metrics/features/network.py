"""A feature network: frozen, in float32, from uint8 images to `Features`."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from genai.errors import UserError

DARKEST, BRIGHTEST = 2, 20  # of 255: nearly black, but not black


class Features(NamedTuple):
    """The output of a feature network for N images."""

    pool: Tensor  # (N, D) float32: the penultimate layer
    logits: Tensor | None  # (N, K) float32; None for a network that is not a classifier
    nearly_black: Tensor | None = None  # (N,) float32: see `nearly_black`

    def cpu(self) -> "Features":
        """The same features on the CPU."""
        return Features(*(None if tensor is None else tensor.cpu() for tensor in self))  # type: ignore[arg-type]


@dataclass(frozen=True)
class FeatureNetwork:
    """A frozen feature network, always in eval mode, float32 and outside autocast.

    It is not an nn.Module, so it cannot become a submodule of a model by accident. Grey images are repeated to three channels
    for a colour network (`repeat_grey`); a grey network refuses colour images. Images of another size are resized with the
    filter that `resize` names.

    Attributes:
        name: as given to `load_extractor`.
        embed: uint8 images (N, channels, H, W) -> `Features`.
        channels: 1 or 3, the input channels of the network.
        resize: resize filter and size, e.g. "antialiased bilinear to 28x28 (other sizes only)".
        weights_sha256: hash of the weights file.
        task: "class" (logits of exclusive classes) or "attributes" (one logit per binary attribute).
        class_names: names of the classes or attributes; empty if they are not those of a dataset of this suite (Inception).
        num_classes: number of logits.
        repeat_grey: whether a grey image is repeated to `channels` channels; otherwise it is refused.
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
        """Whether the logits are named, exclusive classes, so that samples can be counted by class."""
        return self.task == "class" and bool(self.class_names)

    def to(self, device: torch.device | str) -> "FeatureNetwork":
        """Move the network to `device`, in place.

        Raises:
            UserError: there is no such device.
        """
        try:
            self.embed.to(device)
        except (RuntimeError, AssertionError) as error:  # torch's own ways to say that there is no such device
            raise UserError(f"the device {device} cannot be used here ({str(error).splitlines()[0]}): try `cpu`") from None
        return self

    def __call__(self, images: Tensor) -> Features:
        """uint8 images (N, C, H, W) -> `Features`, on the network's device.

        Raises:
            UserError: the images have another number of channels, and are not grey images that can be repeated.
        """
        device = next(self.embed.parameters()).device
        with torch.no_grad(), full_precision(device.type):
            features: Features = self.embed(self._adapt_channels(images).to(device))
        return features._replace(nearly_black=nearly_black(images))

    def check_channels(self, channels: int) -> None:
        """Raise UserError if the network does not read images of so many channels."""
        if channels != self.channels and not (channels == 1 and self.repeat_grey):
            raise UserError(
                f"the feature network `{self.name}` reads images of {self.channels} channel(s), these have {channels}: "
                "choose another, such as `inception`, or train one on such images and write it with `genai export-features`"
            )

    def _adapt_channels(self, images: Tensor) -> Tensor:
        self.check_channels(images.shape[1])
        return images if images.shape[1] == self.channels else images.expand(-1, self.channels, -1, -1)


def extract(network: FeatureNetwork, batches: Iterable[Tensor]) -> Features:
    """Features of all images of all `batches` (each uint8 (n, C, H, W)), in order, on the CPU."""
    return concatenate([network(images).cpu() for images in batches])


def concatenate(parts: Sequence[Features]) -> Features:
    """Features of several batches -> of all their images, in order."""
    columns = zip(*parts, strict=True)
    return Features(*(None if any(part is None for part in column) else torch.cat(column) for column in columns))  # type: ignore[arg-type]


def nearly_black(images: Tensor) -> Tensor:
    """uint8 images (N, C, H, W) -> share of each image's values from 2 to 20 of 255, float32 (N,)."""
    return ((images >= DARKEST) & (images <= BRIGHTEST)).to(torch.float32).mean(dim=(1, 2, 3))


@contextmanager
def full_precision(device_type: str) -> Iterator[None]:
    """Compute in true float32: no autocast, no TF32, no bfloat16 matrix products."""
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


def sha256_of(path: Path) -> str:
    """Hash of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
