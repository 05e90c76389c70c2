"""The space in which the latents of a model are edited, and the first layer that reads it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from genai.models.capabilities import Decodes, HasIntermediate, InvertsNoise
from genai.models.seeds import seeded_normal

BATCH_SIZE = 250


@dataclass(frozen=True)
class Points:
    """N points of a space with the conditions that their decoder takes.

    x: (N, E).
    condition: (N,) classes, (N, K) attributes, (N, L) words, or None.
    """

    x: Tensor
    condition: Tensor | None

    def __getitem__(self, rows: Any) -> "Points":
        """The points of some rows: a slice, indices, or a mask."""
        return Points(self.x[rows], None if self.condition is None else self.condition[rows])

    def moved(self, by: Tensor) -> "Points":
        """The points plus `by`, (E,) or (N, E)."""
        return Points(self.x + by.to(self.x), self.condition)


class EditSpace(NamedTuple):
    """Where latents are edited: W of a generator with a mapping network, the latents that a decoder takes, or initial noise.

    name: `w`, `z`, or `noise` of a diffusion model, whose pixels are the coordinates.
    model: that decodes, or samples from noise.
    """

    name: str
    model: Any

    @torch.no_grad()
    def points(self, seeds: Sequence[int], condition: Tensor | None) -> Points:
        """The points that `sample` decodes for these seeds and conditions; of a GAN with resampling the first candidates."""
        if self.name == "noise":
            z = seeded_normal(seeds, self.model.image_shape, self.model.device).flatten(1)
        else:
            z = self.model.latents(seeds)
        condition = None if condition is None else condition.to(z.device)
        return self.from_latents(z, condition)

    def from_latents(self, z: Tensor, condition: Tensor | None) -> Points:
        """Latents (N, D) as points of this space."""
        return Points(self.model.intermediate().to_w(z, condition), condition) if self.name == "w" else Points(z, condition)

    def images(self, points: Points) -> Tensor:
        """Decoded points: (N, C, H, W) in [-1, 1], differentiable if the model's decoder is; a sampler is not."""
        images: Tensor
        if self.name == "w":
            images = self.model.intermediate().decode(points.x)
        elif self.name == "noise":
            noise = points.x.unflatten(1, self.model.image_shape)
            images = self.model.sample(range(len(noise)), points.condition, initial_noise=noise)
        else:
            images = self.model.decode(points.x, points.condition)
        return images

    @torch.no_grad()
    def decode(self, points: Points) -> Tensor:
        """Decoded points on the CPU, (N, C, H, W) clamped to [-1, 1], some at a time."""
        starts = range(0, len(points.x), BATCH_SIZE)
        return torch.cat([self.images(points[i : i + BATCH_SIZE]).clamp(-1, 1).float().cpu() for i in starts])


def edit_space(model: Any) -> EditSpace:
    """The space of a model that decodes or inverts noise: `w` if it has an intermediate space, else `z` or `noise`."""
    if not isinstance(model, Decodes) and isinstance(model, InvertsNoise):
        return EditSpace("noise", model)
    has_w = isinstance(model, HasIntermediate) and model.intermediate() is not None
    return EditSpace("w" if has_w else "z", model)


class FirstLayer(NamedTuple):
    """The layer that reads a point, as a linear map.

    weight: (E, F), from the point to the F outputs of the layer, without the columns of a condition.
    outputs: points -> outputs of the layer (N, F).
    """

    weight: Tensor
    outputs: Callable[[Points], Tensor]


def first_layer(space: EditSpace, points: Points) -> FirstLayer | None:
    """The first linear layer or convolution whose input begins with the point; None if the decoder has none."""
    example, width = points[:2], points.x.shape[1]
    found: list[nn.Module] = []

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].flatten(1)
        if not found and len(x) == len(example.x) and x.shape[1] >= width and torch.equal(x[:, :width], example.x.to(x)):
            found.append(module)

    layers = [m for m in space.model.modules() if isinstance(m, nn.Linear | nn.ConvTranspose2d)]
    with hooks([layer.register_forward_pre_hook(look) for layer in layers]):
        space.decode(example)
    if not found:
        return None
    layer: Any = found[0]
    weight = layer.weight.detach().float().cpu()
    weight = weight.T if isinstance(layer, nn.Linear) else weight.flatten(1)  # (inputs, outputs)

    def outputs(points: Points) -> Tensor:
        parts: list[Tensor] = []
        with hooks([layer.register_forward_hook(lambda module, inputs, output: parts.append(output.flatten(1).float().cpu()))]):
            space.decode(points)
        return torch.cat(parts)

    return FirstLayer(weight[:width], outputs)


@contextmanager
def hooks(handles: Sequence[Any]) -> Iterator[None]:
    """A context in which hooks of modules are active."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
