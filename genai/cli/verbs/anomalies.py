"""genai anomalies: images ranked by how unlikely a model finds them."""

import argparse
import csv
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.progress import track
from torch import Tensor
from torch.nn.functional import interpolate
from torchmetrics.functional.classification import binary_auroc

from genai.cli.options.arguments import VerbParser, output_path, positive
from genai.cli.options.codes import A_VAE
from genai.cli.options.images import load_capable, nothing_said, run_parser
from genai.data import archives
from genai.data.avatars.styles import STYLES, draw_style
from genai.data.base import ImageDataModule, data_roots
from genai.data.digits import Digits
from genai.data.faces import decode
from genai.data.mnist import MNIST
from genai.errors import UserError
from genai.images import captioned, to_float, to_uint8
from genai.metrics.novelty import excess, novelty, standardised
from genai.metrics.reference import subset_indices
from genai.models.base import ImageModel, Shape
from genai.models.capabilities import EvaluatesBound
from genai.models.seeds import image_seeds
from genai.runs import Run
from genai.runs.data import data_of

STRANGEST = 36  # in the picture
BATCH_SIZE = 50
NUM_KNOWN = 10_000  # training images that codes are compared with
NUM_USUAL = 1000  # other training images, which say what scores are usual
KNOWN = ("mnist", "fashion", "digits")


Score = Callable[[Tensor], Tensor]  # uint8 images (N, C, H, W) -> how strange each is, (N,)


class Judged(NamedTuple):
    """Images uint8 (N, C, H, W), their names and labels in words, and how strange each is, (N,)."""

    images: Tensor
    names: list[str]
    labels: list[str]
    scores: Tensor


def parser() -> VerbParser:
    """The options of `genai anomalies`."""
    verb = run_parser("anomalies", "Rank images by how strange the model finds them: a CSV, and a picture of the strangest.")
    verb.add_argument(
        "data",
        metavar="DATA",
        help=f"test (the run's own), {', '.join(KNOWN)}, a style of faces ({', '.join(STYLES)}), "
        "or a folder, zip or tar of pictures",
    )
    verb.add_argument(
        "--out", dest="table", help="the CSV to write, the PNG beside it; default: new ones in RUN/samples (zoo: here)"
    )
    verb.add_argument(
        "--score",
        choices=tuple(SCORES),
        default="both",
        help="bound: of -ln p(x); excess: the bound less what is usual for an image as bright and intricate; codes: how far "
        "the code lies from those of training images, for its length; both: excess and codes, standardised and added (both)",
    )
    verb.add_argument("--num", type=positive, default=1000, help="images of a dataset, at most (1000)")
    verb.add_argument("--samples", type=positive, default=8, help="importance samples of the bound (8)")
    return verb


def run(arguments: list[str]) -> None:
    """Write the table and the picture; print how well the scores tell what is strange, where that is known."""
    options = parser().parse_args(arguments)
    source, model = load_capable(options, EvaluatesBound, "bound a likelihood", A_VAE)
    table, picture = output_paths(options, source)
    data = data_of(source, options.trust)
    images, names, labels = images_of(options, data, model.image_shape)
    score = SCORES[options.score](options, source, model, data)
    judged = Judged(images, names, labels, score(images))
    print(summary(options, data, judged, score))
    order = judged.scores.argsort(descending=True, stable=True)
    write_csv(judged, order, table)
    shown = order[:STRANGEST]
    captions = [f"{brief(judged.scores[i])}{f' ({judged.labels[i]})' if judged.labels[i] else ''}" for i in shown]
    heading = f"{len(shown)} strangest of {len(order)}, {UNITS[options.score]}"
    captioned(judged.images[shown], captions, heading).save(picture)
    print(f"wrote {table} and {picture}")


def brief(score: Tensor) -> str:
    """Three digits, or all before the point."""
    return f"{score:.0f}" if abs(score) >= 1000 else f"{score:.3g}"


def output_paths(options: argparse.Namespace, run: Run) -> tuple[Path, Path]:
    """The CSV and the PNG to write: --out NAME.csv and NAME.png, or new ones.

    Raises:
        UserError: one is there already, or --out is no .csv.
    """
    folder, prefix = (Path(), f"{run.path.name}-") if run.is_exported else (run.path / "samples", "")
    default = folder / f"{prefix}anomalies-{Path(options.data).stem}.csv"
    table = output_path(options.table, default, options.force)
    if table.suffix != ".csv":
        raise UserError(f"--out {table} should end in .csv; the picture goes beside it, as {table.stem}.png")
    return table, output_path(str(table.with_suffix(".png")), default, options.force)


# -- images --------------------------------------------------------------------------------------------------------------


def images_of(options: argparse.Namespace, data: ImageDataModule, shape: Shape) -> tuple[Tensor, list[str], list[str]]:
    """Images (N, C, H, W) uint8 of --data, as the model takes them, with their names and labels in words (or "")."""
    if options.data == "test" or options.data in KNOWN:
        return images_of_split(data if options.data == "test" else known(options.data, data.root), options.num, shape)
    if options.data in STYLES:
        return images_of_style(options.data, options.num, shape)
    return images_of_files(options.data, data.root, shape)


def known(name: str, root: str | None) -> ImageDataModule:
    """The dataset of that name."""
    return Digits() if name == "digits" else MNIST(variant=name, root=root)  # type: ignore[arg-type]


def images_of_split(data: ImageDataModule, num: int, shape: Shape) -> tuple[Tensor, list[str], list[str]]:
    """`num` images of a test split."""
    data.prepare_data()
    data.setup("test")
    split = data.split("test")
    rows = subset_indices(len(split), num)
    images, labels = split.batch(rows)
    texts = [data.class_names[k] for k in labels.tolist()] if data.label_kind == "class" else [""] * len(rows)
    return fitted(images, shape), [f"test/{i}" for i in rows], texts


def images_of_style(name: str, num: int, shape: Shape) -> tuple[Tensor, list[str], list[str]]:
    """`num` faces of another style than that of the avatars."""
    faces = torch.stack([torch.from_numpy(draw_style(name, seed, shape[1])) for seed in range(num)])
    return fitted(faces, shape), [f"{name}/{seed}" for seed in range(num)], [""] * num


def images_of_files(name: str, root: str | None, shape: Shape) -> tuple[Tensor, list[str], list[str]]:
    """All pictures of a folder or archive that can be read.

    Raises:
        UserError: there is no such place, or no picture in it can be read.
    """
    places = [Path(name).expanduser(), *(folder / name for folder in data_roots(root))]
    place = next((path for path in places if path.exists()), None)
    if place is None:
        named = ", ".join(("test", *KNOWN, *STYLES))
        raise UserError(f"there is no {name}: name {named}, or a folder, zip or tar of pictures")
    images, names = [], []
    for picture in archives.pictures(place):
        try:
            images.append(torch.from_numpy(decode(picture.content, shape[1], shape[0]).copy()))
            names.append(picture.name)
        except Exception as error:  # Pillow raises nearly anything on damaged bytes
            print(f"left out: {picture.name} ({picture.problem or type(error).__name__})", file=sys.stderr)
    if not images:
        raise UserError(f"{place} has no picture that can be read: name another")
    return torch.stack(images), names, [""] * len(names)


def fitted(images: Tensor, shape: Shape) -> Tensor:
    """uint8 images (N, c, h, w) -> (N, C, H, W): enlarged or reduced bicubically, grey of colours, or colours of grey."""
    channels, *sides = shape
    x = to_float(images)
    if list(x.shape[2:]) != sides:
        x = interpolate(x, sides, mode="bicubic", antialias=True)
    x = x.mean(dim=1, keepdim=True) if channels == 1 else x.expand(-1, channels, -1, -1)
    return to_uint8(x)


# -- scores --------------------------------------------------------------------------------------------------------------


def told(options: argparse.Namespace, run: Run, model: ImageModel, num: int) -> Tensor | None:
    """Labels that say nothing, of `num` images; None for an unconditional model."""
    return nothing_said(run, model, num, options.trust) if model.conditional else None


def by_bound(options: argparse.Namespace, run: Run, model: Any, data: ImageDataModule) -> Score:
    """The bound of -ln p(x) in nats."""

    def score(images: Tensor) -> Tensor:
        seeds = image_seeds(options.seed, len(images))
        parts = []
        for start in track(range(0, len(images), BATCH_SIZE), "scoring", transient=True, disable=not sys.stderr.isatty()):
            batch = to_float(images[start : start + BATCH_SIZE])
            condition = told(options, run, model, len(batch))
            estimate = model.likelihood_bound(batch, seeds[start : start + len(batch)], condition, options.samples)
            parts.append(estimate.nats.cpu())
        return torch.cat(parts)

    return score


def by_excess(options: argparse.Namespace, run: Run, model: Any, data: ImageDataModule) -> Score:
    """The bound less what is usual, see `excess`."""
    bound, usual = by_bound(options, run, model, data), training_images(data)[1]
    usual_nats = bound(usual)
    return lambda images: excess(bound(images), to_float(images), usual_nats, to_float(usual))


def by_codes(options: argparse.Namespace, run: Run, model: Any, data: ImageDataModule) -> Score:
    """The novelty of codes among those of training images."""

    def codes(images: Tensor) -> Tensor:
        batches = images.split(10 * BATCH_SIZE)
        return torch.cat([model.encode(to_float(batch), told(options, run, model, len(batch))).cpu() for batch in batches])

    known = codes(training_images(data)[0])
    return lambda images: novelty(codes(images), known)


def by_both(options: argparse.Namespace, run: Run, model: Any, data: ImageDataModule) -> Score:
    """Excess and novelty of codes, each in standard deviations of what is usual, added."""
    bound, codes = by_bound(options, run, model, data), by_codes(options, run, model, data)
    usual = training_images(data)[1]
    usual_nats = bound(usual)

    def parts(images: Tensor, nats: Tensor) -> tuple[Tensor, Tensor]:
        return excess(nats, to_float(images), usual_nats, to_float(usual)), codes(images)

    usual_parts = parts(usual, usual_nats)
    return lambda images: sum(map(standardised, parts(images, bound(images)), usual_parts), torch.zeros(len(images)))


def training_images(data: ImageDataModule) -> tuple[Tensor, Tensor]:
    """Training images uint8 (N, C, H, W) that codes are compared with, and others that say what is usual."""
    data.setup("fit")
    train = data.split("train")
    rows = torch.as_tensor(subset_indices(len(train), NUM_KNOWN + NUM_USUAL))
    is_usual = torch.arange(len(rows)) % max(2, len(rows) // NUM_USUAL) == 0
    known, usual = (train.batch(chosen.tolist()).images for chosen in (rows[~is_usual], rows[is_usual]))
    return known, usual


SCORES = {"bound": by_bound, "excess": by_excess, "codes": by_codes, "both": by_both}
UNITS = {"bound": "nats", "excess": "nats more than usual", "codes": "distance of codes", "both": "standard deviations"}


def summary(options: argparse.Namespace, data: ImageDataModule, judged: Judged, score: Score) -> str:
    """The mean score; and how well scores tell strange images from those of the training classes (area under ROC)."""
    line = f"{judged.scores.mean():.2f} {UNITS[options.score]}, mean over {len(judged.scores)} images"
    strange, ordinary = split_by_class(data, judged) if options.data == "test" else (judged.scores, None)
    if ordinary is None:
        images, _, labels = images_of_split(data, options.num, data.image_shape)
        ordinary = split_by_class(data, Judged(images, [], labels, score(images)))[1]
    if not len(strange) or not len(ordinary):
        return line
    is_strange = torch.cat([torch.ones(len(strange)), torch.zeros(len(ordinary))]).int()
    ranks = torch.cat([strange, ordinary]).argsort().argsort().double() / len(is_strange)  # in [0, 1], as the metric wants
    auroc = float(binary_auroc(ranks, is_strange))
    return f"{line}; AUROC {auroc:.4f} ({len(strange)} strange, {len(ordinary)} of the run's own test images)"


def split_by_class(data: ImageDataModule, judged: Judged) -> tuple[Tensor, Tensor]:
    """Scores of the images whose class training left out, and of the others."""
    left_out = {data.class_names[k] for k in data.exclude}
    is_strange = torch.tensor([label in left_out for label in judged.labels])
    return judged.scores[is_strange], judged.scores[~is_strange]


def write_csv(judged: Judged, order: Tensor, path: Path) -> None:
    """One row per image, the strangest first: rank, image, label, score."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["rank", "image", "label", "score"])
        for rank, i in enumerate(order.tolist(), start=1):
            writer.writerow([rank, judged.names[i], judged.labels[i], f"{judged.scores[i]:.3f}"])
