"""What a direction changes in a decoder, layer by layer, and whether restoring what it points at undoes the edit."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from genai.control.spaces import EditSpace, Points, hooks

LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


class LayerChange(NamedTuple):
    """How much an edit changes the output of a layer.

    name: of the module.
    shape: of the output, without the batch.
    change: norm of the difference relative to that of the output, mean over the points.
    random: the same of random directions of the same length.
    places: the change at each position, relative to the largest one, mean over the points: (h, w); None for a linear layer.
    """

    name: str
    shape: tuple[int, ...]
    change: float
    random: float
    places: Tensor | None


def outputs_of(space: EditSpace, points: Points) -> dict[str, Tensor]:
    """The outputs (N, ...) of each layer of the decoder, in the order in which they run."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda module, inputs, output: found.__setitem__(name, output.float().cpu())

    layers = [(name, module) for name, module in space.model.named_modules() if isinstance(module, LAYERS)]
    with hooks([module.register_forward_hook(keep(name)) for name, module in layers]):
        space.decode(points)
    return {name: output for name, output in found.items() if len(output) == len(points.x)}


def layer_changes(space: EditSpace, points: Points, move: Tensor, randoms: Tensor) -> list[LayerChange]:
    """The changes of all layers.

    Args:
        space: whose model decodes.
        points: N points, at most BATCH_SIZE.
        move: (E,), the edit.
        randoms: (R, E), other moves of the same length.
    """
    before, after = outputs_of(space, points), outputs_of(space, points.moved(move))
    controls = [outputs_of(space, points.moved(other)) for other in randoms]
    changes = []
    for name, output in before.items():
        values = [float(relative_change(output, other[name]).mean()) for other in (after, *controls)]
        places = (after[name] - output).norm(dim=1) if output.ndim == 4 else None  # (N, h, w)
        if places is not None:
            places = (places / places.flatten(1).amax(dim=1)[:, None, None].clamp(min=1e-12)).mean(dim=0)
        changes.append(LayerChange(name, tuple(output.shape[1:]), values[0], sum(values[1:]) / len(controls), places))
    return changes


def relative_change(before: Tensor, after: Tensor) -> Tensor:
    """|after - before| / |before| of outputs (N, ...): (N,)."""
    return (after - before).flatten(1).norm(dim=1) / before.flatten(1).norm(dim=1).clamp(min=1e-12)


def restored(space: EditSpace, points: Points, move: Tensor, layer: str, share: float) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W) of the edit, where a layer keeps its unedited output at a share of its positions.

    Returns:
        with the positions restored that the edit changes most, and with as many random ones.
    """
    before, after = (outputs_of(space, p)[layer] for p in (points, points.moved(move)))
    change = (after - before).norm(dim=1).flatten(1)  # (N, h * w)
    random = torch.rand(change.shape, generator=torch.Generator().manual_seed(0))
    num = max(1, round(share * change.shape[1]))
    images = []
    for values in (change, random):
        mask = (
            torch.zeros_like(values).scatter_(1, values.topk(num, dim=1).indices, 1.0).view(len(before), 1, *before.shape[2:])
        )

        def patch(module: nn.Module, inputs: Any, output: Tensor, mask: Tensor = mask) -> Tensor:
            return torch.where(mask.to(output) > 0, before.to(output), output)

        with hooks([space.model.get_submodule(layer).register_forward_hook(patch)]):
            images.append(space.decode(points.moved(move)))
    return images[0], images[1]
