"""genai sample --realness: how real a model's discriminator finds what it drew, beside real images of the test split."""

import argparse
import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from genai.cli.options.arguments import output_path
from genai.cli.options.labels import label_texts, seeds_for
from genai.data.base import ImageArray
from genai.errors import UserError
from genai.images import GAP, captioned, save_png, to_float, to_uint8
from genai.models.base import ImageModel
from genai.models.capabilities import ScoresRealness
from genai.models.conditions import condition_vector
from genai.runs import Run
from genai.runs.data import data_of

MOST = 1024  # images of each set: they are judged in one go and shown in one picture


class Judged(NamedTuple):
    """One set of images with the model's realness in each.

    kind: `generated` or `real`.
    images: (N, C, H, W) uint8.
    indices: numbers (N,) of the images, in the order of their seeds or in the test split.
    seeds: one per generated image; empty for real ones.
    labels: in words, one per image; empty without labels.
    realness: (N,) in [0, 1].
    """

    kind: str
    images: Tensor
    indices: list[int]
    seeds: list[int]
    labels: list[str]
    realness: list[float]

    @property
    def mean(self) -> float:
        return float(np.mean(self.realness))


def write_realness(options: argparse.Namespace, run: Run, model: ImageModel, labels: Tensor | None) -> None:
    """Judge what `genai sample` draws and as many real images; write a CSV and a picture."""
    check(run, model)
    num = options.num if labels is None else len(labels)
    if num > MOST:
        raise UserError(f"--realness judges at most {MOST} images, not {num}: choose a smaller --num")
    default = run.path / "samples" / f"realness-seed-{options.seed}-num-{num}.csv"
    path = output_path(options.out, default, options.force)
    if path.suffix != ".csv":
        raise UserError(f"--out {path} should end in .csv; the picture goes beside it, as {path.stem}.png")
    picture = output_path(str(path.with_suffix(".png")), default, options.force)
    sets = judge(run, model, seeds_for(options, num), labels, data_of(run, options.trust).split("test"))
    write_csv(sets, path)
    metadata = {"Model": type(model).__name__, "Run": run.name, "Seed": str(options.seed)}
    save_png(beside([panel(judged) for judged in sets]), picture, metadata)
    print(f"mean realness: {', '.join(f'{judged.mean:.3f} in the {judged.kind} images' for judged in sets)}")
    print(f"wrote {path} and {picture}")


def check(run: Run, model: ImageModel) -> None:
    """Raise UserError unless the model can judge images."""
    if not isinstance(model, ScoresRealness):
        raise UserError(f"{run.path} is a {type(model).__name__}, which has no discriminator: --realness is for GANs")
    if model.is_exported:
        raise UserError(f"{run.path} is a zoo entry, from which no realness is read: name a run directory with its checkpoint")


# -- judging -------------------------------------------------------------------------------------------------------------


def judge(run: Run, model: ImageModel, seeds: list[int], labels: Tensor | None, test: ImageArray) -> list[Judged]:
    """The images of `seeds`, and as many real ones like them, judged in one go and so against the same generated images.

    Args:
        labels: (N,) classes or (N, K) attributes to draw; None for an unconditional model.
        test: the real images to choose from.
    """
    assert isinstance(model, ScoresRealness)
    rows = matching(labels, test, model.num_classes) if labels is not None else first_rows(len(seeds), test)
    real = test.batch(rows)
    drawn = model.sample(seeds, labels)
    both = None if labels is None else torch.cat([condition_vector(part, model.num_classes) for part in (labels, real.labels)])
    images = torch.cat([drawn, to_float(real.images).to(drawn.device)])
    realness = model.realness(images, None if both is None else both.to(drawn.device)).tolist()
    texts = [[], []] if labels is None else [label_texts(part, run) for part in (labels, real.labels)]
    return [
        Judged("generated", to_uint8(drawn).cpu(), list(range(len(seeds))), seeds, texts[0], realness[: len(seeds)]),
        Judged("real", real.images, rows, [], texts[1], realness[len(seeds) :]),
    ]


def first_rows(num: int, test: ImageArray) -> list[int]:
    """The first `num` rows of the split."""
    if num > len(test):
        raise UserError(f"the test split has {len(test)} images, not {num}: choose --num {len(test)} or less")
    return list(range(num))


def matching(labels: Tensor, test: ImageArray, num_classes: int) -> list[int]:
    """For each label a row of the split that no other has taken: the first of that class, or of the nearest attributes.

    Raises:
        UserError: the split has too few.
    """
    first_rows(len(labels), test)
    wanted = condition_vector(labels, num_classes).numpy()
    there = condition_vector(torch.as_tensor(test.labels), num_classes).numpy()
    free = np.zeros(len(test))
    rows = []
    for label in wanted:
        distance = np.abs(there - label).sum(axis=1) + free
        row = int(distance.argmin())
        if labels.ndim == 1 and distance[row] > 0:
            raise UserError(
                f"the test split has too few images of class {label.argmax()}: choose a smaller --num or --per-label"
            )
        free[row] = np.inf
        rows.append(row)
    return rows


# -- writing -------------------------------------------------------------------------------------------------------------


def write_csv(sets: list[Judged], path: Path) -> None:
    """One row per image: kind, index, seed, label, realness."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["kind", "index", "seed", "label", "realness"])
        for judged in sets:
            for i, index in enumerate(judged.indices):
                seed = judged.seeds[i] if judged.seeds else ""
                label = judged.labels[i] if judged.labels else ""
                writer.writerow([judged.kind, index, seed, label, f"{judged.realness[i]:.6f}"])


def panel(judged: Judged) -> Image.Image:
    """The images from most to least convincing, the realness under each, below a heading."""
    order = np.argsort(judged.realness, kind="stable")[::-1].copy()
    heading = f"{len(order)} {judged.kind}, mean realness {judged.mean:.2f}"
    return captioned(judged.images[torch.from_numpy(order)], [f"{judged.realness[i]:.2f}" for i in order], heading)


def beside(panels: list[Image.Image]) -> Image.Image:
    """Panels side by side on white, a line between them."""
    width = sum(one.width for one in panels) + 3 * GAP * (len(panels) - 1)
    picture = Image.new("RGB", (width, max(one.height for one in panels)), "white")
    left = 0
    for number, one in enumerate(panels):
        if number:
            ImageDraw.Draw(picture).line(
                [(left - 1.5 * GAP, GAP), (left - 1.5 * GAP, picture.height - GAP)], fill="#bbbbbb", width=2
            )
        picture.paste(one, (left, 0))
        left += one.width + 3 * GAP
    return picture
