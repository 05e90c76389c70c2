"""A conditional model whose images encode their condition, in its own run directory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from genai.data.base import ImageDataModule
from genai.models.base import ImageModel
from genai.models.conditions import condition_vector
from genai.runs import FORMAT, write_json
from genai.training.record import label_record


class Encoder(ImageModel):
    """Image i: its condition in the first pixels (1 where set, -1 where not), then its seed / 100 in the rest."""

    conditional = True

    def generate(self, seeds: Sequence[int], condition: Tensor | None, **options: Any) -> Tensor:
        assert condition is not None
        images = torch.tensor(seeds).div(100)[:, None].repeat(1, torch.Size(self.image_shape).numel())
        images[:, : self.num_classes] = condition_vector(condition, self.num_classes) * 2 - 1
        return images.reshape(-1, *self.image_shape)


class Speller(ImageModel):
    """Image i: its words as uint8 values in the first pixels, then its seed / 100 in the rest."""

    conditional = True

    def generate(self, seeds: Sequence[int], condition: Tensor | None, **options: Any) -> Tensor:
        assert condition is not None
        images = torch.tensor(seeds).div(100)[:, None].repeat(1, torch.Size(self.image_shape).numel())
        images[:, : condition.shape[1]] = condition / 127.5 - 1
        return images.reshape(-1, *self.image_shape)


class Believer(Encoder):
    """Its realness is exact too: the brightest pixel, from 0 to 1, times the share of the condition that is set."""

    def realness(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        assert condition is not None
        assert condition.shape == (len(images), self.num_classes)
        return (images.flatten(1).amax(1) + 1) / 2 * condition.mean(1)


def decoded(images: Tensor, num_classes: int) -> Tensor:
    """The condition that images (N, C, H, W), uint8 or in [-1, 1], say: (N, num_classes) of 0 and 1."""
    pixels = images.flatten(1)[:, :num_classes]
    return (pixels > (127 if images.dtype == torch.uint8 else 0)).float()


def make_run(folder: Path, data: ImageDataModule, init_args: dict[str, Any], model: type[ImageModel] = Encoder) -> Path:
    """A run of `model` on `data`, which `init_args` build; returns its folder."""
    (folder / "checkpoints").mkdir(parents=True)
    config = {
        "model": {"class_path": f"tests.encoding.{model.__name__}"},
        "data": {"class_path": f"{type(data).__module__}.{type(data).__name__}", "init_args": init_args},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    shapes = {"format": FORMAT, "image_shape": list(data.image_shape), "num_classes": data.num_classes}
    write_json(folder / "run.json", {**shapes, "class_names": list(data.class_names), **label_record(data)})
    torch.save({"state_dict": {}, "images_seen": 0}, folder / "checkpoints/last.ckpt")
    return folder
