"""The results of `genai classify`: rows of scores, the table, the CSV and the plots."""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from torch import Tensor

from genai import files
from genai.metrics.discriminative import Reliability, classification, reliability
from genai.metrics.tables import WrappedTable


class Row(NamedTuple):
    """A method, its number of training images or documents, and its scores on the test split.

    `scaled_calibration_error` is that after temperature scaling on the validation split, NaN for images; `choice` is what was
    chosen on the validation split.
    """

    method: str
    num_train: int
    accuracy: float
    calibration_error: float
    scaled_calibration_error: float
    seconds: float
    choice: str
    reliability: Reliability


def scored(
    method: str,
    num_train: int,
    probabilities: Tensor,
    labels: Tensor,
    began: float,
    scaled: Tensor | None = None,
    choice: str = "",
) -> Row:
    """The scores of one method: class probabilities (N, K), also after temperature scaling, and labels (N,)."""
    accuracy, error = classification(probabilities, labels)
    after = math.nan if scaled is None else classification(scaled, labels).calibration_error
    seconds = time.perf_counter() - began
    return Row(method, num_train, accuracy, error, after, seconds, choice, reliability(probabilities, labels))


def show(rows: Sequence[Row], num: int, what: str) -> None:
    """Print the table: mean and standard deviation over the rows of a method with the same number of training `what`."""
    lines = []
    for size, method in dict.fromkeys((r.num_train, r.method) for r in rows):
        own = [r for r in rows if (r.num_train, r.method) == (size, method)]
        values = [[100 * v for v in column] for column in zip(*(r[2:5] for r in own), strict=True)]
        cells = [cell(column) for column in values if not math.isnan(column[0])]
        lines.append([method, f"{size:,}", *cells, f"{np.mean([r.seconds for r in own]):.1f}", ", ".join(choices(own))])
    has_scaled = not math.isnan(rows[0].scaled_calibration_error)
    columns = ["method", f"training {what}", "accuracy (%)", "ECE (%)", *(["scaled ECE (%)"] if has_scaled else []), "seconds"]
    if has_scaled:
        columns.append("choice")
    caption = f"{num:,} test {what}; ECE: expected calibration error"
    if has_scaled:
        caption += "; scaled: after temperature scaling on the validation split, where the choice was made too"
    if len(lines) < len(rows):
        caption += "; ±: standard deviation over the runs of one method and size"
    Console().print(WrappedTable(columns, [line[: len(columns)] for line in lines], caption=caption))


def cell(values: Sequence[float]) -> str:
    """The mean, and with several values their standard deviation."""
    return f"{np.mean(values):.1f}" + (f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else "")


def choices(rows: Sequence[Row]) -> list[str]:
    """The different choices of rows."""
    return list(dict.fromkeys(r.choice for r in rows))


def write(rows: Sequence[Row], path: Path) -> None:
    """The rows as CSV, without the reliability."""
    files.write_csv(path, [Row._fields[:-1], *(r[:-1] for r in rows)])


def plot(rows: Sequence[Row], path: Path, what: str) -> None:
    """Accuracy by the number of training images or documents, and the reliability of each method at the largest number."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for method in dict.fromkeys(r.method for r in rows):
        sizes = sorted({r.num_train for r in rows if r.method == method})
        means = [np.mean([100 * r.accuracy for r in rows if (r.method, r.num_train) == (method, size)]) for size in sizes]
        left.plot(sizes, means, "o-", label=method)
        last = next(r for r in rows if (r.method, r.num_train) == (method, sizes[-1]))
        right.plot(last.reliability.confidence, last.reliability.accuracy, "o-", label=method)
    right.plot([0, 1], [0, 1], color="grey", linewidth=1)
    left.set(xlabel=f"training {what}", ylabel="accuracy on the test split, %", xscale="log")
    right.set(xlabel="confidence", ylabel="accuracy", title="reliability, most training data")
    left.legend()
    with files.open_atomically(path) as file:
        figure.savefig(file, dpi=120, format="png")
