"""genai classify: compare generative and discriminative classification

Group: inspect
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genai.cli.classification import Row, plot, scored, show, write
from genai.cli.options.arguments import VerbParser, positive, refuse
from genai.cli.options.output import OutputOptions
from genai.cli.options.run import LoadedRun, RunOptions, add_seed_option
from genai.cli.text_classification import text_rows
from genai.data.base import ImageDataModule
from genai.data.labelled import LabelledText
from genai.errors import UserError
from genai.images import to_float
from genai.metrics.discriminative import BASELINES, baseline, posterior
from genai.metrics.reference import subset_indices
from genai.models.capabilities import Classifies, EvaluatesBound
from genai.models.seeds import image_seeds

BATCH_SIZE = 50
NUM_SAMPLES = 32


def parser() -> VerbParser:
    """The options of `genai classify`."""
    verb = VerbParser(
        "classify",
        "RUN... [options]",
        "Classify test images or documents and compare: conditional generative models by Bayes' rule, argmax of "
        "ln p(x|y) + ln p(y); classifiers; and naive Bayes, logistic regression and QDA (of text: n-grams) on the same "
        "training data.",
    )
    verb.add_argument("runs", metavar="RUN", nargs="+", help="runs of one dataset")
    RunOptions.add_model_options(verb)
    verb.add_argument(
        "--num", type=positive, default=1000, metavar="N", help="number of test images or documents (default: 1000)"
    )
    verb.add_argument("--samples", type=positive, metavar="N", help=f"importance samples per bound (default: {NUM_SAMPLES})")
    add_seed_option(verb, "seed of the importance samples (default: 0)", default=None)
    OutputOptions.add_to(verb, "the CSV to write; the plot is written beside it")
    return verb


def run(arguments: list[str]) -> None:
    """Print the table; write it and its plot."""
    options = parser().parse(arguments)
    runs = [replace(RunOptions.from_namespace(options), run=name) for name in options.runs]
    table, plot_path = OutputOptions.from_namespace(options).table_and_picture(runs[0].find(), "classify")
    sources = [run.load() for run in runs]
    if not any(isinstance(source.model, EvaluatesBound) for source in sources):
        refuse(options, ("samples", "seed"), "without a model that has a bound on its likelihood")
    data = [opened(source) for source in sources]
    if len({part.name for part in data}) > 1:
        names = " and ".join(sorted({part.name for part in data}))
        raise UserError(f"the runs are of {names}: compare runs of one dataset")
    if isinstance(data[0], LabelledText):
        what, num = "documents", min(options.num, len(data[0].split("test").documents))
        rows = list(text_rows(sources, data, num))
    else:
        what, num = "images", min(options.num, len(data[0].split("test")))
        rows = list(image_rows(sources, data, num, options.samples or NUM_SAMPLES, options.seed or 0))
    rows.sort(key=lambda row: (row.num_train, row.accuracy))
    show(rows, num, what)
    write(rows, table)
    plot(rows, plot_path, what)
    print(f"wrote {table} and {plot_path}")


def opened(source: LoadedRun) -> Any:
    """The run's data; UserError if they have no classes."""
    data = source.data()
    if data.label_kind != "class":
        raise UserError(f"{data.name} has no classes: name runs of mnist, digits or configs/mails/gpt.yaml")
    return data


def image_rows(
    sources: Sequence[LoadedRun], data: Sequence[ImageDataModule], num: int, num_samples: int, seed: int
) -> Iterator[Row]:
    """A row for each run, and one for each baseline and each set of training images."""
    split = data[0].split("test")
    images, labels = split.batch(subset_indices(len(split), num))
    for source, own in zip(sources, data, strict=True):
        began = time.perf_counter()
        method, probabilities = predict(source, own, images, num_samples, seed)
        yield scored(method, len(own.split("train")), probabilities, labels, began)
    yield from baseline_rows(data, images, labels)


def predict(source: LoadedRun, data: ImageDataModule, images: Tensor, num_samples: int, seed: int) -> tuple[str, Tensor]:
    """The method's name and the class probabilities (N, K) of uint8 images (N, C, H, W)."""
    model = source.model
    name = type(model).__name__
    if isinstance(model, Classifies):
        return name.lower(), model.predict(images).cpu()
    if not (isinstance(model, EvaluatesBound) and source.model.conditional):
        raise UserError(
            f"{source.run.path} is a {name}, which cannot classify: name a run of a preset that can, such as "
            "configs/digits/cvae.yaml (a conditional model with a likelihood) or configs/digits/features.yaml (a classifier)"
        )
    train = data.split("train")
    prior = torch.bincount(torch.as_tensor(train.labels), minlength=data.num_classes) / len(train)
    return f"{name} by Bayes' rule", posterior(log_likelihoods(model, images, num_samples, seed), prior)


def log_likelihoods(model: Any, images: Tensor, num_samples: int, seed: int) -> Tensor:
    """The bounds on ln p(x|y) of uint8 images (N, C, H, W) for every class, with the same noise: (N, K) float64."""
    seeds = image_seeds(seed, len(images))
    columns = []
    for k in range(model.num_classes):
        parts = []
        for start in range(0, len(images), BATCH_SIZE):
            batch = to_float(images[start : start + BATCH_SIZE])
            condition = torch.full((len(batch),), k)
            own_seeds = seeds[start : start + len(batch)]
            parts.append(-model.likelihood_bound(batch, own_seeds, condition, num_samples).nats.cpu())
        columns.append(torch.cat(parts))
    return torch.stack(columns, dim=1)


def baseline_rows(data: Sequence[ImageDataModule], images: Tensor, labels: Tensor) -> Iterator[Row]:
    """A row for each baseline and each set of training images."""
    for own in {part.fingerprint("train"): part for part in data}.values():
        train = own.split("train")
        for name in BASELINES:
            began = time.perf_counter()
            probabilities = baseline(name, np.asarray(train.images), np.asarray(train.labels), images.numpy(), own.num_classes)
            yield scored(name, len(train), probabilities, labels, began)
