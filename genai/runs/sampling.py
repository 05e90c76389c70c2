"""`genai.sample`: images from a run, a zoo entry or a model, in one call."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from genai.errors import DamagedFileError, UserError
from genai.images import check_number
from genai.models.base import ImageModel
from genai.models.seeds import image_seeds
from genai.runs import Run, find, load
from genai.runs.files import is_numbers


def sample(
    model: str | Path | Run | ImageModel,
    num: int = 64,
    seed: int = 0,
    label: int | str | Sequence[int] | Tensor | None = None,
    checkpoint: str = "best",
    device: str = "cpu",
    trust: Sequence[str] = (),
    **options: Any,
) -> Tensor:
    """Sample `num` images with the averaged weights: (num, C, H, W) float32 in [-1, 1].

    Image i depends only on `seed`, i and its label: it is the image i of `genai sample --seed SEED`.

    Args:
        model: a run, as for `genai.load`, or a model.
        num: number of images.
        seed: of the images.
        label: of a class-conditional model: a class number, a class name (of a run), or `num` class numbers; default, of a
            run: the classes in turn. Of other conditional models: attributes (num, K) float or captions (num, L) int64;
            default, of a run: those of training images.
        checkpoint, device, trust: of a run, as for `genai.load`.
        options: of the model's `sample`, such as `steps` of a diffusion model.

    Raises:
        UserError: there is no such run or class, or the label does not fit the model.
    """
    names: list[str] = []
    if isinstance(model, L.LightningModule):
        model = check_generates_images(model, "the model")
    else:
        run = model if isinstance(model, Run) else find(model)
        names = run.record()["class_names"]
        model = check_generates_images(load(run, checkpoint, device, trust), str(run.path))
        check_label(run, model, label)
        label = default_condition(run, model, num) if label is None else label
    return model.sample(image_seeds(seed, num), make_condition(model, label, num, names), **options)


def check_generates_images(model: L.LightningModule, name: str) -> ImageModel:
    """The model, if it samples images; UserError for another one."""
    if not isinstance(model, ImageModel):
        raise UserError(f"{name} is a {type(model).__name__}, which generates no images: name a run of a model of images")
    return model


def check_label(run: Run, model: ImageModel, label: Any) -> None:
    """Raise UserError for a class as `label` of a run whose labels are attributes or captions."""
    kind = run.record().get("label_kind", "class")
    if label is None or not model.conditional or kind not in ("attributes", "text"):
        return
    if isinstance(label, str) or torch.as_tensor(label).ndim != 2:
        what = f"attributes (num, {model.num_classes}) of 0 and 1" if kind == "attributes" else "captions (num, L) as words"
        raise UserError(f"{run.path} has no classes: give `label` as {what}, or leave it out")


def default_condition(run: Run, model: ImageModel, num: int, kind: str | None = None) -> Tensor | None:
    """The condition of `num` images without a label of the user's; None for an unconditional model.

    Classes in turn, (num,) int64; or the attributes (num, K) float32 or captions (num, L) int64 of training images in turn.

    Args:
        run: gives the labels of training images.
        model: of the run.
        num: number of images.
        kind: of the labels: `class`, `attributes` or `text`; None for that of run.json.

    Raises:
        UserError: run.json has no labels of training images.
    """
    check_number(num, model.image_shape)
    if not model.conditional:
        return None
    kind = kind or run.record().get("label_kind", "class")
    if kind not in ("attributes", "text"):
        return torch.arange(num) % model.num_classes
    examples = label_examples(run)
    rows = examples[torch.arange(num) % len(examples)]
    return rows.float() if kind == "attributes" else rows


def label_examples(run: Run) -> Tensor:
    """Attribute vectors (M, K) or words (M, L) of training images, int64; UserError if run.json has none, or other values."""
    record = run.record()
    examples, most = record.get("label_examples"), record.get("num_classes", 0)
    if not examples:
        command = shlex.join(["genai", "fit", "--resume", str(run.path)])
        raise UserError(f"{run.path}/run.json has no label_examples: `{command}` adds them")
    if (
        not all(is_numbers(row, int) and row for row in examples)
        or len(set(map(len, examples))) > 1
        or not isinstance(most, int)
    ):
        raise DamagedFileError(f"{run.path}/run.json is damaged (its label_examples are no rows of integers)")
    if not all(0 <= value < max(most, 2) for row in examples for value in row):
        raise DamagedFileError(f"{run.path}/run.json is damaged (its label_examples are out of range)")
    return torch.tensor(examples)


def make_condition(model: ImageModel, label: Any, num: int, class_names: Sequence[str]) -> Tensor | None:
    """The condition of `num` images; see `sample` for `label`.

    Raises:
        UserError: the label does not fit the model.
    """
    check_number(num, model.image_shape)
    if not model.conditional:
        if label is not None:
            raise UserError("the model is unconditional: leave `label` out")
        return None
    if label is None:
        raise UserError(
            "a model without its run does not know what its labels are: give `label`, such as a class number, or name the run"
        )
    if isinstance(label, str):
        if label not in class_names:
            raise UserError(f"there is no class {label!r}: choose {', '.join(class_names) or 'a class number'}")
        label = list(class_names).index(label)
    condition = torch.as_tensor(label)
    if condition.ndim == 0:
        condition = condition.repeat(num)
    if len(condition) != num:
        raise UserError(f"there are {len(condition)} labels for {num} images: give one label for each image")
    if condition.ndim == 1 and not bool(((condition >= 0) & (condition < model.num_classes)).all()):
        raise UserError(f"a label is out of range: use the classes 0 to {model.num_classes - 1}")
    return condition
