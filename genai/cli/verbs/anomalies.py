"""genai anomalies: rank images by anomaly score

Group: inspect
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from rich.progress import track
from torch import Tensor
from torch.nn.functional import interpolate
from torchmetrics.functional.classification import binary_auroc

from genai import files
from genai.cli.options.arguments import VerbParser, positive, refuse
from genai.cli.options.images import encode_images
from genai.cli.options.labels import null_condition
from genai.cli.options.output import OutputOptions
from genai.cli.options.run import LoadedRun, RequiredCapability, RunOptions, add_seed_option
from genai.data import archives
from genai.data.avatars.styles import STYLES, render_style
from genai.data.base import ImageDataModule, data_roots
from genai.data.decoding import decode_image, why
from genai.data.digits import Digits
from genai.data.mnist import MNIST
from genai.data.photos import printable
from genai.errors import UserError
from genai.images import captioned, to_float, to_uint8
from genai.metrics.novelty import excess, novelty, standardised
from genai.metrics.reference import subset_indices
from genai.models.base import Shape
from genai.models.capabilities import Encodes, EvaluatesBound
from genai.models.seeds import image_seeds

BOUND = RequiredCapability(EvaluatesBound, "evaluate a bound on the likelihood", ("configs/digits/vae.yaml",))
ENCODE = RequiredCapability(Encodes, "encode images", ("configs/digits/vae.yaml",))
CAPABILITIES = {"bound": (BOUND,), "excess": (BOUND,), "codes": (ENCODE,), "both": (BOUND, ENCODE)}
UNITS = {"bound": "nats", "excess": "nats above expectation", "codes": "code distance", "both": "standard deviations"}
NUM_SAMPLES = 8  # for each bound
NUM_SHOWN = 36  # images in the picture
BATCH_SIZE = 50
NUM_REFERENCE = 10_000  # training images whose codes are the reference
NUM_CALIBRATION = 1000  # other training images, whose scores are the scale
DATASETS = ("mnist", "fashion", "digits")


def parser() -> VerbParser:
    """The options of `genai anomalies`."""
    verb = VerbParser(
        "anomalies",
        "RUN DATA [options]",
        "Rank images by how anomalous the model finds them: a CSV of all, and a PNG of the highest scores. If DATA has "
        "classes excluded from training, or is another dataset, the area under the ROC curve is printed.",
    )
    RunOptions.add_to(verb)
    names = f"test (the run's own test split), {', '.join(DATASETS)}, a style of faces ({', '.join(STYLES)})"
    verb.add_argument("data", metavar="DATA", help=f"{names}, or a folder, zip or tar of images")
    kinds = (
        "bound: upper bound on -ln p(x)",
        "excess: bound minus its expectation for the image's brightness and complexity",
        "codes: distance of the code to those of training images",
        "both: excess and codes, standardised and added (default: both)",
    )
    verb.add_argument("--score", choices=tuple(UNITS), default="both", help="; ".join(kinds))
    text = "maximum number of images of a dataset (default: 1000)"
    verb.add_argument("--num", type=positive, default=1000, metavar="N", help=text)
    verb.add_argument("--samples", type=positive, metavar="N", help=f"importance samples per image (default: {NUM_SAMPLES})")
    add_seed_option(verb, "seed of the importance samples (default: 0)", default=None)
    OutputOptions.add_to(verb, "the CSV to write; the PNG is written beside it")
    return verb


def run(arguments: list[str]) -> None:
    """Write the table and the picture; print the mean score, and the AUROC if the anomalies are known."""
    options = parser().parse(arguments)
    run, kind = RunOptions.from_namespace(options), options.score
    if kind == "codes":
        refuse(options, ("samples", "seed"), "on --score codes")
    stem = f"anomalies-{Path(options.data).stem}"
    table, picture = OutputOptions.from_namespace(options).table_and_picture(run.find(), stem)
    source = run.load(*CAPABILITIES[kind])
    data = source.data()
    named = read_images_of(options.data, options.num, data, source.model.image_shape)
    score = make_score(kind, source, data, options.samples or NUM_SAMPLES, options.seed or 0)
    scores = score(named.images)
    print(f"{scores.mean():.2f} {UNITS[kind]}, mean over {len(scores):,} images")
    is_excluded = excluded(data, named) if options.data == "test" else torch.ones(len(scores), dtype=torch.bool)
    anomalous, normal = scores[is_excluded], scores[~is_excluded]
    if options.data != "test":
        own = read_images_of("test", options.num, data, data.image_shape)
        normal = score(own.images)[~excluded(data, own)]
    if len(anomalous) and len(normal):
        counts = f"{len(anomalous):,} anomalous images, {len(normal):,} test images of the run's data"
        print(f"AUROC {auroc(anomalous, normal):.4f} ({counts})")
    order = scores.argsort(descending=True, stable=True)
    ranked = enumerate(order.tolist(), start=1)
    rows = [[rank, named.names[i], named.labels[i], f"{scores[i]:.3f}"] for rank, i in ranked]
    files.write_csv(table, [["rank", "image", "label", "score"], *rows])
    top = order[:NUM_SHOWN]
    captions = [f"{brief(scores[i])}{f' ({named.labels[i]})' if named.labels[i] else ''}" for i in top]
    chart = captioned(named.images[top], captions, f"{len(top)} most anomalous of {len(order)}, {UNITS[kind]}")
    with files.open_atomically(picture) as file:
        chart.save(file, format="PNG")
    print(f"wrote {table} and {picture}")


def brief(score: Tensor) -> str:
    """Three significant digits, or all digits before the point."""
    return f"{score:.0f}" if abs(score) >= 1000 else f"{score:.3g}"


# -- images --------------------------------------------------------------------------------------------------------------


class NamedImages(NamedTuple):
    """Images uint8 (N, C, H, W), their names, and their classes by name ("" if unknown)."""

    images: Tensor
    names: list[str]
    labels: list[str]


def read_images_of(name: str, num: int, data: ImageDataModule, shape: Shape) -> NamedImages:
    """The images of DATA, converted to the model's shape (C, H, W); at most `num` of a dataset."""
    if name == "test" or name in DATASETS:
        return images_of_split(data if name == "test" else dataset(name, data.root), num, shape)
    if name in STYLES:
        return images_of_style(name, num, shape)
    return images_of_files(name, data.root, shape)


def dataset(name: str, root: str | None) -> ImageDataModule:
    """The dataset of that name."""
    return Digits() if name == "digits" else MNIST(variant=name, root=root)  # type: ignore[arg-type]


def images_of_split(data: ImageDataModule, num: int, shape: Shape) -> NamedImages:
    """`num` images of a test split."""
    data.prepare_data()
    data.setup("test")
    split = data.split("test")
    rows = subset_indices(len(split), num)
    images, labels = split.batch(rows)
    texts = [data.class_names[k] for k in labels.tolist()] if data.label_kind == "class" else [""] * len(rows)
    return NamedImages(converted(images, shape), [f"test/{i}" for i in rows], texts)


def images_of_style(name: str, num: int, shape: Shape) -> NamedImages:
    """`num` faces of another style than that of the avatars dataset."""
    faces = torch.stack([torch.from_numpy(render_style(name, seed, shape[1])) for seed in range(num)])
    return NamedImages(converted(faces, shape), [f"{name}/{seed}" for seed in range(num)], [""] * num)


def images_of_files(name: str, root: str | None, shape: Shape) -> NamedImages:
    """All images of a folder or archive that can be read; the others are named on stderr.

    Raises:
        UserError: there is no such file or folder, or no image in it can be read.
    """
    places = [Path(name).expanduser(), *(folder / name for folder in data_roots(root))]
    place = next((path for path in places if path.exists()), None)
    if place is None:
        named = ", ".join(("test", *DATASETS, *STYLES))
        raise UserError(f"there is no {name}: name {named}, or a folder, zip or tar of images")
    images, names = [], []
    for picture in archives.pictures(place):
        try:
            images.append(torch.from_numpy(decode_image(picture.content, shape[1], shape[0]).copy()))
            names.append(printable(picture.name))
        except Exception as error:  # Pillow raises nearly anything on damaged bytes
            print(f"skipped {printable(picture.name)} ({picture.problem or why(error)})", file=sys.stderr)
    if not images:
        raise UserError(f"{place} has no image that can be read: name another")
    return NamedImages(torch.stack(images), names, [""] * len(names))


def converted(images: Tensor, shape: Shape) -> Tensor:
    """uint8 images (N, c, h, w) -> (N, C, H, W): resized bicubically, colour to grey or grey to colour."""
    channels, *sides = shape
    x = to_float(images)
    if list(x.shape[2:]) != sides:
        x = interpolate(x, sides, mode="bicubic", antialias=True)
    x = x.mean(dim=1, keepdim=True) if channels == 1 else x.expand(-1, channels, -1, -1)
    return to_uint8(x)


# -- scores --------------------------------------------------------------------------------------------------------------

Score = Callable[[Tensor], Tensor]  # uint8 images (N, C, H, W) -> anomaly scores (N,)


def make_score(kind: str, source: LoadedRun, data: ImageDataModule, num_samples: int, seed: int) -> Score:
    """The anomaly score `bound`, `excess`, `codes` or `both`, calibrated on training images."""

    def bound(images: Tensor) -> Tensor:
        return negative_bound(images, source, num_samples, seed)

    def codes(images: Tensor) -> Tensor:
        return encode_images(source.model, images, null_condition(source, len(images)))

    if kind == "bound":
        return bound
    reference, calibration = training_images(data)
    calibration_bound = bound(calibration) if kind in ("excess", "both") else None
    reference_codes = codes(reference) if kind in ("codes", "both") else None

    def parts(images: Tensor, bounds: Tensor | None) -> list[Tensor]:
        """The excess and the novelty of the codes, if `kind` needs them."""
        found = []
        if calibration_bound is not None and bounds is not None:
            found.append(excess(bounds, to_float(images), calibration_bound, to_float(calibration)))
        if reference_codes is not None:
            found.append(novelty(codes(images), reference_codes))
        return found

    if kind != "both":
        return lambda images: parts(images, bound(images) if kind == "excess" else None)[0]
    calibration_parts = parts(calibration, calibration_bound)
    return lambda images: sum(map(standardised, parts(images, bound(images)), calibration_parts), torch.zeros(len(images)))


def negative_bound(images: Tensor, source: LoadedRun, num_samples: int, seed: int) -> Tensor:
    """The bound on -ln p(x) in nats (N,) of uint8 images (N, C, H, W)."""
    seeds = image_seeds(seed, len(images))
    parts = []
    for start in track(range(0, len(images), BATCH_SIZE), "scoring", transient=True, disable=not sys.stderr.isatty()):
        batch = to_float(images[start : start + BATCH_SIZE])
        own_seeds = seeds[start : start + len(batch)]
        estimate = source.model.likelihood_bound(batch, own_seeds, null_condition(source, len(batch)), num_samples)
        parts.append(estimate.nats.cpu())
    return torch.cat(parts)


def training_images(data: ImageDataModule) -> tuple[Tensor, Tensor]:
    """Two disjoint sets of training images, uint8 (N, C, H, W): the reference of the codes, and those that set the scale."""
    data.setup("fit")
    train = data.split("train")
    rows = torch.as_tensor(subset_indices(len(train), NUM_REFERENCE + NUM_CALIBRATION))
    is_calibration = torch.arange(len(rows)) % max(2, len(rows) // NUM_CALIBRATION) == 0
    reference, calibration = (train.batch(chosen.tolist()).images for chosen in (rows[~is_calibration], rows[is_calibration]))
    return reference, calibration


# -- results -------------------------------------------------------------------------------------------------------------


def excluded(data: ImageDataModule, named: NamedImages) -> Tensor:
    """Which images are of a class that was excluded from training: (N,) bool."""
    classes = {data.class_names[k] for k in data.exclude}
    return torch.tensor([label in classes for label in named.labels])


def auroc(anomalous: Tensor, normal: Tensor) -> float:
    """The probability that an anomalous image has a higher score than a normal one; equal scores count half."""
    target = torch.cat([torch.ones(len(anomalous)), torch.zeros(len(normal))]).int()
    _, ranks = torch.cat([anomalous, normal]).unique(return_inverse=True)  # torchmetrics needs values in [0, 1]
    return float(binary_auroc(ranks.double() / len(target), target))
