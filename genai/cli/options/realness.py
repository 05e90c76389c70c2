"""`genai sample --realness`: the realness scores of generated images and of real ones, as a table and a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from genai import files
from genai.cli.options.output import OutputOptions
from genai.cli.options.run import LoadedRun, RequiredCapability
from genai.data.base import ImageArray
from genai.data.words import labels_in_words
from genai.errors import UserError
from genai.images import captioned, save_png, side_by_side, to_float, to_uint8
from genai.models.capabilities import ScoresRealness
from genai.models.conditions import condition_vector

REALNESS = RequiredCapability(ScoresRealness, "score realness: it has no discriminator", ("configs/digits/gan.yaml",))
MAX_IMAGES = 1024  # of each set: they are scored in one batch and shown in one picture


class RealnessScores(NamedTuple):
    """One set of images with their realness scores.

    kind: `generated` or `real`.
    images: (N, C, H, W) uint8.
    indices: numbers (N,) of the images, in the order of their seeds or in the test split.
    seeds: one per generated image; empty for real ones.
    labels: as text, one per image; empty without labels.
    realness: (N,) in [0, 1].
    """

    kind: str
    images: Tensor
    indices: Sequence[int]
    seeds: Sequence[int]
    labels: list[str]
    realness: list[float]

    @property
    def mean(self) -> float:
        return float(np.mean(self.realness))


def write_realness(source: LoadedRun, seeds: Sequence[int], condition: Tensor | None, seed: int, output: OutputOptions) -> None:
    """Score generated images and as many real ones; write a CSV and a picture, and print the means."""
    if source.model.is_exported:
        raise UserError(f"{source.run.path} is a zoo entry, whose weights have no discriminator: name a run directory")
    if len(seeds) > MAX_IMAGES:
        raise UserError(f"--realness scores at most {MAX_IMAGES} images, not {len(seeds)}: choose a smaller --num")
    table, picture = output.table_and_picture(source.run, f"realness-seed-{seed}-num-{len(seeds)}")
    sets = score_realness(source, seeds, condition, source.test_split())
    write_csv(sets, table)
    metadata = {"Model": type(source.model).__name__, "Run": source.run.name, "Seed": str(seed)}
    save_png(side_by_side([panel(scores) for scores in sets]), picture, metadata)
    print(f"mean realness: {', '.join(f'{scores.mean:.3f} of {scores.kind} images' for scores in sets)}")
    print(f"wrote {table} and {picture}")


# -- scoring -------------------------------------------------------------------------------------------------------------


def score_realness(source: LoadedRun, seeds: Sequence[int], condition: Tensor | None, test: ImageArray) -> list[RealnessScores]:
    """The samples of `seeds`, and as many real images of the same condition, scored in one batch.

    Args:
        source: the model and its run.
        seeds: one for each sample.
        condition: (N,) classes or (N, K) attributes; None for an unconditional model.
        test: the real images to choose from.
    """
    model, num_classes = source.model, source.model.num_classes
    rows = matching_rows(condition, test, num_classes) if condition is not None else first_rows(len(seeds), test)
    real = test.batch(rows)
    generated = model.sample(seeds, condition)
    images = torch.cat([generated, to_float(real.images).to(generated.device)])
    both: Tensor | None = None
    texts: list[list[str]] = [[], []]
    if condition is not None:
        both = torch.cat([condition_vector(part, num_classes) for part in (condition, real.labels)]).to(generated.device)
        texts = [labels_in_words(part, source.run.record()["class_names"]) for part in (condition, real.labels)]
    realness = model.realness(images, both).tolist()
    n = len(seeds)
    return [
        RealnessScores("generated", to_uint8(generated).cpu(), list(range(n)), seeds, texts[0], realness[:n]),
        RealnessScores("real", real.images, rows, [], texts[1], realness[n:]),
    ]


def first_rows(num: int, test: ImageArray) -> list[int]:
    """The first `num` rows of the split; UserError if it has fewer."""
    if num > len(test):
        raise UserError(f"the test split has {len(test):,} images, not {num:,}: choose --num {len(test)} or less")
    return list(range(num))


def matching_rows(condition: Tensor, test: ImageArray, num_classes: int) -> list[int]:
    """A different row of the split for each label: the first of that class, or of the nearest attributes.

    Raises:
        UserError: the split has too few.
    """
    first_rows(len(condition), test)
    wanted = condition_vector(condition, num_classes).numpy()
    available = condition_vector(torch.as_tensor(test.labels), num_classes).numpy()
    used = np.zeros(len(test))
    rows = []
    for label in wanted:
        distance = np.abs(available - label).sum(axis=1) + used
        row = int(distance.argmin())
        if condition.ndim == 1 and distance[row] > 0:
            text = f"the test split has too few images of class {label.argmax()}"
            raise UserError(f"{text}: choose a smaller --num or --per-label")
        used[row] = np.inf
        rows.append(row)
    return rows


# -- writing -------------------------------------------------------------------------------------------------------------


def write_csv(sets: list[RealnessScores], path: Path) -> None:
    """One row per image: kind, index, seed, label, realness."""
    rows: list[list[object]] = [["kind", "index", "seed", "label", "realness"]]
    for scores in sets:
        for i, index in enumerate(scores.indices):
            seed = scores.seeds[i] if scores.seeds else ""
            label = scores.labels[i] if scores.labels else ""
            rows.append([scores.kind, index, seed, label, f"{scores.realness[i]:.6f}"])
    files.write_csv(path, rows)


def panel(scores: RealnessScores) -> Image.Image:
    """The images from the highest to the lowest realness, with the score under each and a heading."""
    order = np.argsort(scores.realness, kind="stable")[::-1].copy()
    heading = f"{len(order)} {scores.kind}, mean realness {scores.mean:.2f}"
    return captioned(scores.images[torch.from_numpy(order)], [f"{scores.realness[i]:.2f}" for i in order], heading)
