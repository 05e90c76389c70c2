"""genai classify: models of density as classifiers, by Bayes' rule, beside discriminative ones."""

import argparse
import csv
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from genai.cli.options.arguments import VerbParser, output_path, positive
from genai.data.base import Batch, ImageDataModule
from genai.errors import UserError
from genai.images import to_float
from genai.metrics.discriminative import BASELINES, baseline, classification, posterior
from genai.metrics.reference import subset_indices
from genai.models.capabilities import Classifies, EvaluatesBound
from genai.models.seeds import image_seeds
from genai.runs import Run, find, load
from genai.runs.data import data_of

BATCH_SIZE = 50


class Row(NamedTuple):
    """A method, how many training images it had, and what it reaches on the test images."""

    method: str
    training_images: int
    accuracy: float
    calibration_error: float
    seconds: float


def parser() -> VerbParser:
    """The options of `genai classify`."""
    verb = VerbParser(
        prog="genai classify",
        description="Classify test images: conditional models with a likelihood by Bayes' rule, argmax of ln p(x|y) + ln p(y); "
        "classifiers; and naive Bayes, QDA and logistic regression on the same training images.",
    )
    verb.add_argument("runs", metavar="RUN", nargs="+", help="runs of the same dataset, of a VAE or a classifier")
    verb.add_argument("--num", type=positive, default=1000, help="test images (1000)")
    verb.add_argument("--samples", type=positive, default=32, help="importance samples of each bound (32)")
    verb.add_argument("--out", help="the CSV to write, the plot beside it; default: new ones in the first RUN/samples")
    verb.add_argument("--seed", type=int, default=0, help="of the bounds' noise (0)")
    verb.add_argument("--force", action="store_true", help="write over --out if it is there")
    verb.add_argument("--checkpoint", default="best", help="best, last or a file")
    verb.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    verb.add_argument("--trust", action="append", default=[], help="a package whose classes the config may name")
    return verb


def run(arguments: list[str]) -> None:
    """Print the table; write it and its plot."""
    options = parser().parse_args(arguments)
    sources = [find(name) for name in options.runs]
    table = table_path(options, sources[0])
    data = [ready(data_of(source, options.trust)) for source in sources]
    if len({part.name for part in data}) > 1:
        raise UserError(f"the runs are of {' and '.join(sorted({part.name for part in data}))}: compare runs of one dataset")
    split = data[0].split("test")
    tested = split.batch(subset_indices(len(split), options.num))
    rows = [*of_runs(options, sources, data, tested), *of_baselines(data, tested)]
    rows.sort(key=lambda row: (row.training_images, row.accuracy))
    show(rows, len(tested.images))
    write(rows, table)
    plot(rows, table.with_suffix(".png"))
    print(f"wrote {table} and {table.with_suffix('.png')}")


def table_path(options: argparse.Namespace, first: Run) -> Path:
    """The CSV to write.

    Raises:
        UserError: it, or the plot, is there already, or it is no .csv.
    """
    default = Path("classify.csv") if first.is_exported else first.path / "samples" / "classify.csv"
    path = output_path(options.out, default, options.force)
    if path.suffix != ".csv":
        raise UserError(f"--out {path} should end in .csv; the plot goes beside it, as {path.stem}.png")
    output_path(str(path.with_suffix(".png")), default, options.force)
    return path


def ready(data: ImageDataModule) -> ImageDataModule:
    """The data, opened.

    Raises:
        UserError: they have no classes.
    """
    if data.label_kind != "class":
        raise UserError(f"{data.name} has no classes to tell apart: classify runs of mnist or digits")
    data.prepare_data()
    data.setup("test")
    return data


# -- methods -------------------------------------------------------------------------------------------------------------


def of_runs(
    options: argparse.Namespace, sources: Sequence[Run], data: Sequence[ImageDataModule], tested: Batch
) -> Iterator[Row]:
    """A row for each run."""
    for source, own in zip(sources, data, strict=True):
        model: Any = load(source, options.checkpoint, options.device, options.trust)
        train = own.split("train")
        began = time.perf_counter()
        if isinstance(model, Classifies):
            method, probabilities = type(model).__name__.lower(), model.predict(tested.images).cpu()
        elif isinstance(model, EvaluatesBound) and getattr(model, "conditional", False):
            shares = torch.bincount(torch.as_tensor(train.labels), minlength=own.num_classes) / len(train)
            method = f"{type(model).__name__} by Bayes' rule"
            probabilities = posterior(log_likelihoods(options, model, tested.images), shares)
        else:
            raise UserError(
                f"{source.path} is no classifier, nor a conditional model with a likelihood: "
                "name a run of configs/mnist/cvae.yaml or features.yaml"
            )
        yield row(method, len(train), probabilities, tested.labels, began)


def log_likelihoods(options: argparse.Namespace, model: Any, images: Tensor) -> Tensor:
    """The bounds of ln p(x|y) of uint8 images (N, C, H, W) for every class, with the same noise: (N, K) float64."""
    seeds = image_seeds(options.seed, len(images))
    columns = []
    for k in range(model.num_classes):
        parts = []
        for start in range(0, len(images), BATCH_SIZE):
            batch = to_float(images[start : start + BATCH_SIZE])
            told = torch.full((len(batch),), k)
            bound = model.likelihood_bound(batch, seeds[start : start + len(batch)], told, options.samples)
            parts.append(-bound.nats.cpu())
        columns.append(torch.cat(parts))
    return torch.stack(columns, dim=1)


def of_baselines(data: Sequence[ImageDataModule], tested: Batch) -> Iterator[Row]:
    """A row for each baseline and each set of training images."""
    for own in {part.fingerprint("train"): part for part in data}.values():
        train = own.split("train")
        for name in BASELINES:
            began = time.perf_counter()
            probabilities = baseline(name, np.asarray(train.images), np.asarray(train.labels), tested.images.numpy())
            yield row(name, len(train), probabilities, tested.labels, began)


def row(method: str, num: int, probabilities: Tensor, labels: Tensor, began: float) -> Row:
    """The scores of one method."""
    return Row(method, num, *classification(probabilities, labels), seconds=time.perf_counter() - began)


# -- results -------------------------------------------------------------------------------------------------------------


def show(rows: Sequence[Row], num: int) -> None:
    """Print the table."""
    table = Table(title=f"{num} test images")
    for column in ("training images", "method", "accuracy, %", "calibration error, %", "seconds"):
        table.add_column(column)
    for r in rows:
        scores = (f"{100 * r.accuracy:.1f}", f"{100 * r.calibration_error:.1f}", f"{r.seconds:.1f}")
        table.add_row(f"{r.training_images:,}", r.method, *scores)
    Console().print(table)


def write(rows: Sequence[Row], path: Path) -> None:
    """The table as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Row._fields)
        writer.writerows(rows)


def plot(rows: Sequence[Row], path: Path) -> None:
    """Accuracy by the number of training images, a line for each method."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for method in dict.fromkeys(r.method for r in rows):
        points = sorted((r.training_images, 100 * r.accuracy) for r in rows if r.method == method)
        axes.plot(*zip(*points, strict=True), "o-", label=method)
    axes.set(xlabel="training images", ylabel="accuracy on the test split, %", xscale="log")
    axes.legend()
    figure.savefig(path, dpi=120)
