"""genai audit: compare class or attribute shares of samples and data

Group: inspect
"""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console
from scipy.stats import chisquare
from torch import Tensor

from genai import files
from genai.cli.options.arguments import VerbParser, positive
from genai.cli.options.labels import shares_condition
from genai.cli.options.output import OutputOptions
from genai.cli.options.run import SAMPLE_IMAGES, LoadedRun, RunOptions, add_seed_option
from genai.cli.options.sampling import SamplerOptions
from genai.cli.options.shares import SHARES_HELP
from genai.data.base import ImageDataModule
from genai.errors import UserError
from genai.escaping import in_chart
from genai.images import save_png, to_uint8
from genai.metrics.audit import Cells, ShareAudit, audit_cells, holm
from genai.metrics.features import FeatureNetwork, default_features, extract, load_extractor
from genai.metrics.labels import cycle_labels, expected_labels
from genai.metrics.reference import Subset, real_features
from genai.metrics.tables import WrappedTable
from genai.models.seeds import image_seeds
from genai.runs.data import data_of

BATCH_SIZE = 250
ALPHA = 0.05
MAX_ROWS = 40  # in the terminal and the picture; the CSV has all
COLUMNS = ("", "training", "samples", "95 % interval", "ratio", "raw", "p")


def parser() -> VerbParser:
    """The options of `genai audit`."""
    verb = VerbParser(
        "audit",
        "RUN [options]",
        "Compare the shares of classes or attributes among samples with those among the training images, corrected for the "
        "errors of the feature network that classifies the samples: a table, a CSV and a PNG.",
    )
    RunOptions.add_to(verb)
    verb.add_argument("--num", type=positive, default=1000, metavar="N", help="number of samples (default: 1000)")
    text = "feature network that classifies images (default: that of the run's data)"
    verb.add_argument("--features", metavar="NAME", help=text)
    text = "labels of the data to compare, such as attributes, if the model was trained without"
    verb.add_argument("--labels", metavar="KIND", help=text)
    text = "two attributes whose four combinations are compared, or `all` for every pair"
    verb.add_argument("--intersect", metavar="A,B", help=text)
    verb.add_argument("--shares", metavar="NAME=SHARE,...", help=f"{SHARES_HELP}; default: labels of training images")
    add_seed_option(verb)
    SamplerOptions.add_to(verb)
    OutputOptions.add_to(verb, "the CSV to write; the PNG is written beside it")
    return verb


def run(arguments: list[str]) -> None:
    """Print the table and the tests; write the CSV and the picture."""
    options = parser().parse(arguments)
    run = RunOptions.from_namespace(options)
    table, picture = OutputOptions.from_namespace(options).table_and_picture(run.find(), "audit")
    source = run.load(SAMPLE_IMAGES)
    settings = SamplerOptions.from_namespace(options).settings(source, run.device)
    if options.shares and not source.model.conditional:
        raise UserError(f"{source.run.path} is unconditional: leave --shares out")
    data = own = source.data("fit")  # with the model's own labels
    if options.labels is not None:
        data = data_of(source.run, source.trust, {"labels": options.labels})
        data.prepare_data()
        data.setup("fit")
    assert isinstance(data, ImageDataModule)  # the model samples images
    network = load_extractor(options.features or default_features(data.name)).to(run.device)
    chosen = chosen_pairs(options.intersect, network)
    known = known_labels(data, network)
    condition = sample_labels(source, own, options.num, options.shares)
    predict = predictor(network)
    images = to_uint8(source.model.sample(image_seeds(options.seed, options.num), condition, **settings))
    predicted = predict(extract(network, images.split(BATCH_SIZE)).logits)
    held_out = Subset(data.name, data.fingerprint("test"), "test", len(known["test"]))
    test_predicted = predict(real_features(data.split("test"), held_out, network).logits)
    labelled = LabelSets(known["train"], known["test"], test_predicted, predicted)
    rows, verdicts = audit_rows(labelled, network, chosen, options.seed)
    num_train, num_test = len(labelled.train), len(labelled.test)
    caption = (
        f"Shares in %: of {num_train:,} training images by their labels; of {options.num:,} samples by `{network.name}`, "
        f"corrected by its confusion matrix on {num_test:,} test images (raw: not corrected). p: that a share equals that of "
        "the training images, adjusted for all rows of a question (Holm)."
    )
    console = Console()
    console.print(WrappedTable(COLUMNS, [cells_of(row) for row in most_different(rows)], caption=caption))
    for line in verdicts:
        console.print(line, highlight=False)
    write_table(rows, table)
    about = {"Model": type(source.model).__name__, "Run": source.run.name, "Verb": "audit"}
    save_png(
        chart(most_different(rows), source.run.name), picture, about | ({"Shares": options.shares} if options.shares else {})
    )
    print(f"wrote {table} and {picture}")


class LabelSets(NamedTuple):
    """Classes (N,) or attributes (N, K), int64: labels of training and test images, predictions of test images and samples."""

    train: np.ndarray
    test: np.ndarray
    test_predicted: np.ndarray
    predicted: np.ndarray


class AuditRow(NamedTuple):
    """A row of the table: shares of a class, an attribute or a combination, and the adjusted p-value of their difference."""

    name: str
    train: float
    share: float
    low: float
    high: float
    predicted: float
    p: float


def known_labels(data: Any, network: FeatureNetwork) -> dict[str, np.ndarray]:
    """The labels of the training and the test images in terms of the feature network.

    Raises:
        UserError: the network does not know the classes or attributes of the data.
    """
    labels = {split: expected_labels(data, split, network, len(data.split(split))) for split in ("train", "test")}
    if not network.class_names or any(values is None for values in labels.values()):
        named = ", ".join(data.class_names[:10]) if data.label_kind in ("class", "attributes") else "none"
        raise UserError(
            f"the feature network `{network.name}` does not know the labels of {data.name} ({named}): name one with --features "
            "that `genai export-features` wrote from a classifier of these labels, or other labels of the data with --labels"
        )
    return {split: np.rint(np.asarray(values)).astype(np.int64) for split, values in labels.items()}


def chosen_pairs(text: str | None, network: FeatureNetwork) -> list[tuple[int, int]]:
    """The pairs of attributes of --intersect, by number.

    Raises:
        UserError: the network knows classes, or not these two attributes.
    """
    names = network.class_names
    if text is None:
        return []
    if network.task != "attributes":
        raise UserError(f"--intersect compares attributes, and `{network.name}` knows exclusive classes: leave it out")
    if text == "all":
        return list(itertools.combinations(range(len(names)), 2))
    parts = text.split(",")
    unknown = next((part for part in parts if part not in names), None)
    if unknown is not None or len(set(parts)) != 2:
        problem = f"there is no attribute {unknown!r}" if unknown is not None else f"{text!r} is not two attributes"
        raise UserError(f"--intersect: {problem}: name two of {', '.join(names)}, such as {names[0]},{names[1]}, or all")
    return [(names.index(parts[0]), names.index(parts[1]))]


def sample_labels(source: LoadedRun, data: Any, num: int, shares: str | None) -> Tensor | None:
    """The condition of `num` samples: labels of training images, or those with --shares; None for an unconditional model."""
    if shares is None:
        return cycle_labels(data.split("train").labels, num) if source.model.conditional else None
    examples = Tensor(data.split("train").labels) if data.label_kind == "attributes" else None
    return shares_condition(shares, num, source, examples)


def predictor(network: FeatureNetwork) -> Callable[[Any], np.ndarray]:
    """From logits to classes (N,) or attributes (N, K), int64."""
    if network.task == "attributes":
        return lambda logits: (logits > 0).long().numpy()
    return lambda logits: logits.argmax(dim=1).numpy()


# -- rows ----------------------------------------------------------------------------------------------------------------


def audit_rows(
    labelled: LabelSets, network: FeatureNetwork, pairs: Sequence[tuple[int, int]], seed: int
) -> tuple[list[AuditRow], list[str]]:
    """The rows of the table and the lines below it: for classes whether data and samples have equal shares and are alike.

    There is a row for each class; or for each attribute, and then for the four combinations of each pair.
    """
    names = network.class_names
    if network.task == "class":
        cells = Cells(names, *labelled)
        found, equal = audit_cells(cells, seed), audit_cells(cells, seed, np.ones(len(names)))
        counts = np.bincount(labelled.train, minlength=len(names))
        apart = np.abs(found.train - 1 / len(names)).sum() / 2
        lines = [
            f"training images: total variation from equal shares {100 * apart:.1f} %",
            f"training images against equal shares: {verdict(float(chisquare(counts).pvalue))}",
            f"samples against training images:      {verdict(found.p_value)}",
            f"samples against equal shares:         {verdict(equal.p_value)}",
        ]
        return question_rows(found, names), lines
    single = [audit_cells(Cells(("no", name), *(part[:, k] for part in labelled)), seed) for k, name in enumerate(names)]
    adjusted = holm(np.array([found.p_value for found in single]))
    rows = [question_rows(found, ("no", name))[1]._replace(p=p) for found, name, p in zip(single, names, adjusted, strict=True)]
    for a, b in pairs:
        both = [f"{x} + {y}" for x in (f"no {names[a]}", names[a]) for y in (f"no {names[b]}", names[b])]
        combined = Cells(both, *(2 * part[:, a] + part[:, b] for part in labelled))
        rows += question_rows(audit_cells(combined, seed), both)
    return rows, []


def question_rows(found: ShareAudit, names: Sequence[str]) -> list[AuditRow]:
    """The rows of one question."""
    columns = (found.train, found.share, found.low, found.high, found.predicted, found.p_values)
    return [AuditRow(name, *map(float, values)) for name, *values in zip(names, *columns, strict=True)]


def verdict(p_value: float) -> str:
    """`different (p = 0.0005)`."""
    return f"{'different' if p_value < ALPHA else 'no difference found'} (p = {p_value:.2g})"


def most_different(rows: Sequence[AuditRow]) -> list[AuditRow]:
    """At most MAX_ROWS rows, in order: those with the smallest p-values, then the largest differences."""
    ranked = sorted(range(len(rows)), key=lambda i: (rows[i].p, -abs(rows[i].share - rows[i].train)))
    return [rows[i] for i in sorted(ranked[:MAX_ROWS])]


def cells_of(row: AuditRow) -> list[str]:
    """A row of the table in the terminal."""
    ratio = f"{row.share / row.train:.2f}" if row.train else "-"
    percent = [f"{100 * value:.1f}" for value in (row.train, row.share, row.low, row.high, row.predicted)]
    mark = " *" if row.p < ALPHA else ""
    return [row.name, percent[0], percent[1], f"{percent[2]} - {percent[3]}", ratio, percent[4], f"{row.p:.4f}{mark}"]


def write_table(rows: Sequence[AuditRow], path: Path) -> None:
    """The CSV: shares from 0 to 1."""
    heading = ["name", "training", "samples", "low", "high", "uncorrected", "p"]
    lines = [[row.name, *(f"{v:.6f}" for v in (row.train, row.share, row.low, row.high, row.predicted, row.p))] for row in rows]
    files.write_csv(path, [heading, *lines])


def chart(rows: Sequence[AuditRow], name: str) -> Image.Image:
    """Bars of the training shares, and the corrected shares of the samples with their intervals."""
    figure = Figure(figsize=(8, max(3.0, 0.3 * len(rows) + 1.4)), dpi=120, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel="share in %")
    places = np.arange(len(rows))
    train, share, low, high = (100 * np.array([getattr(row, key) for row in rows]) for key in ("train", "share", "low", "high"))
    axes.barh(places, train, color="#c8d3e0", label="training images")
    colors = ["#c2410c" if row.p < ALPHA else "#1f4e8c" for row in rows]
    axes.hlines(places, low, high, color=colors)
    axes.scatter(share, places, color=colors, s=24, zorder=3, label=f"samples, 95 % interval (red: p < {ALPHA:g})")
    axes.set_yticks(places, [in_chart(row.name) for row in rows])
    axes.invert_yaxis()
    axes.set_title(f"shares of the samples of {in_chart(name)}")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
