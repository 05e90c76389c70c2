"""genai memorisation: does a model copy its training images, or know them?

Group: inspect
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from rich.progress import track
from torch import Tensor

from genai.cli.options.arguments import VerbParser, positive, refuse
from genai.cli.options.output import OutputOptions
from genai.cli.options.run import SAMPLE_IMAGES, LoadedRun, RunOptions, add_seed_option
from genai.cli.options.sampling import SamplerOptions
from genai.data.arrays import ImageArray, with_shares
from genai.errors import UserError
from genai.images import grid, save_png, titled, to_float, to_uint8
from genai.metrics.labels import cycle_labels
from genai.metrics.memorisation import Membership, NearestShare, membership, nearest_share, share_of_copies
from genai.metrics.reference import subset_indices
from genai.models.capabilities import Denoises, EvaluatesBound, ExactLikelihood, ScoresRealness
from genai.models.seeds import image_seeds
from genai.report.html.nearest import Neighbours, nearest

BATCH_SIZE = 100
NUM_WORST = 16  # samples in the picture
BOUND_SAMPLES = 8
NUM_LEVELS = 20
WIDTH = 21  # of the first column
Score = Callable[[Tensor, Sequence[int], Tensor | None], Tensor]  # images (N, C, H, W), seeds, condition -> (N,), low if known


def parser() -> VerbParser:
    """The options of `genai memorisation`."""
    verb = VerbParser(
        "memorisation",
        "RUN [options]",
        "Compare samples with the nearest training and test images, and the loss or likelihood of training images with that of "
        "test images (membership inference). A PNG shows the samples that are nearest to training images.",
    )
    RunOptions.add_to(verb)
    text = "number of samples, and maximum number of training and of test images whose loss is compared (default: 500)"
    verb.add_argument("--num", type=positive, default=500, metavar="N", help=text)
    text = f"noise levels of a diffusion model's loss, each one evaluation for each image (default: {NUM_LEVELS})"
    verb.add_argument("--levels", type=positive, metavar="N", help=text)
    add_seed_option(verb)
    SamplerOptions.add_to(verb)
    OutputOptions.add_to(verb)
    return verb


def run(arguments: list[str]) -> None:
    """Print the comparison and write the picture."""
    options = parser().parse(arguments)
    run = RunOptions.from_namespace(options)
    path = OutputOptions.from_namespace(options).png(run.find(), "memorisation")
    source = run.load(SAMPLE_IMAGES)
    if not isinstance(source.model, Denoises):
        refuse(options, ("levels",), f"on a {type(source.model).__name__}")
    settings = SamplerOptions.from_namespace(options).settings(source, run.device)
    if options.num < 2:
        raise UserError("--num 1 is too small for a comparison: use 2 samples or more")
    data = source.data("fit")
    train, held = data.split("train"), data.split("test")
    chosen = data.exclude or data.class_shares is not None or data.num_train is not None
    if chosen and data.label_kind == "class":
        held = with_shares_of(held, train.labels)
    if min(len(train), len(held)) < 2:
        raise UserError(f"{data.name} has {len(train)} training and {len(held)} test images: a comparison needs 2 of each")
    condition = cycle_labels(train.labels, options.num) if source.model.conditional else None
    samples = to_uint8(source.model.sample(image_seeds(options.seed, options.num), condition, **settings)).cpu()
    to_train, to_held = nearest(samples, train, 2), nearest(samples, held, 1)
    real = held.batch(subset_indices(len(held), options.num)).images
    of_held = share_of_copies(nearest(real, train, 2).distances.numpy())
    share = nearest_share(*parts(to_train), *parts(to_held), (len(train), len(held)), options.seed)
    copies = share_of_copies(to_train.distances.numpy())
    print(f"{options.num:,} samples; {len(train):,} training and {len(held):,} test images of {data.name}")
    show_neighbours(share, copies, of_held, to_train, to_held)
    if chosen and data.label_kind == "class":
        print("test images: as many as have the class shares of the training images")
    show_membership(source, train, held, options.num, options.levels or NUM_LEVELS, options.seed)
    picture = worst(samples, to_train, to_held)
    save_png(picture, path, {"Model": type(source.model).__name__, "Run": source.run.name, "Verb": "memorisation"})
    print(f"wrote {path}")


def with_shares_of(held: ImageArray, labels: np.ndarray) -> ImageArray:
    """Test images with the class shares of training labels (N,): otherwise what tells classes apart looks like memorisation."""
    rows = with_shares(held.labels, np.bincount(labels).tolist(), len(held))
    return ImageArray(held.images[rows], held.labels[rows])


# -- neighbours ----------------------------------------------------------------------------------------------------------


def parts(found: Neighbours) -> tuple[Any, Any]:
    """Distance (N,) and row (N,) of the nearest image."""
    return found.distances[:, 0].numpy(), found.rows[:, 0].numpy()


def show_neighbours(share: NearestShare, copies: float, of_held: float, to_train: Neighbours, to_held: Neighbours) -> None:
    """Print what the nearest images say."""
    distances = [float(found.distances[:, 0].median()) for found in (to_train, to_held)]
    print(f"{'nearest image':<{WIDTH}}training {distances[0]:.1f}, test {distances[1]:.1f} (median RMS, 0-255)")
    chance = f"by chance {100 * share.chance:.1f} %, 95 % within {100 * share.low:.1f} - {100 * share.high:.1f} %"
    print(f"{'nearer to training':<{WIDTH}}{100 * share.share:.1f} % of the samples (p = {share.p_value:.2g})")
    print(f"{'':<{WIDTH}}{chance}")
    print(f"{'copies of one image':<{WIDTH}}{100 * copies:.1f} % of the samples; {100 * of_held:.1f} % of test images")


def worst(samples: Tensor, to_train: Neighbours, to_held: Neighbours) -> Image.Image:
    """The samples that are nearest to a training image, compared with the nearest test image: three rows of images."""
    ratio = to_train.distances[:, 0] / to_held.distances[:, 0].clamp(min=1e-6)
    rows = ratio.argsort()[:NUM_WORST]
    tiles = torch.cat([samples[rows], to_train.images[rows, 0], to_held.images[rows, 0]])
    return titled(grid(tiles, len(rows)), "samples, their nearest training images, their nearest test images")


# -- membership inference ------------------------------------------------------------------------------------------------


class Known(NamedTuple):
    """A score that is low for images that the model knows, and its name."""

    name: str
    score: Score


def known_score(model: Any, levels: int) -> Known | None:
    """The score of a model; None for a model without loss, likelihood or discriminator."""
    if isinstance(model, Denoises):
        return Known("denoising loss", lambda x, seeds, labels: model.denoising_errors(x, seeds, labels, levels))
    if isinstance(model, EvaluatesBound):
        return Known("-ln p(x)", lambda x, seeds, labels: model.likelihood_bound(x, seeds, labels, BOUND_SAMPLES).nats)
    if isinstance(model, ExactLikelihood):
        return Known("-ln p(x)", lambda x, seeds, labels: model.likelihood(x, seeds, labels).nats)
    if isinstance(model, ScoresRealness) and not getattr(model, "is_exported", False):
        return Known("-realness", lambda x, seeds, labels: -model.realness(x, labels))
    return None


def show_membership(source: LoadedRun, train: ImageArray, held: ImageArray, num: int, levels: int, seed: int) -> None:
    """Print how well the model's loss tells training images from test images."""
    known = known_score(source.model, levels)
    if known is None:
        kind = type(source.model).__name__
        print(f"{'membership inference':<{WIDTH}}left out: no loss or likelihood in a {kind}")
        return
    members, others = (scores(source, known.score, split, num, seed + i) for i, split in enumerate((train, held)))
    found = membership(members.numpy(), others.numpy(), seed)
    gap = f" ({100 * (found.other / found.member - 1):+.1f} %)" if found.member > 0 else ""
    print(f"{known.name:<{WIDTH}}training {found.member:.4g}, test {found.other:.4g}{gap}; p = {found.p_value:.1g}")
    show_auc(found)


def show_auc(found: Membership) -> None:
    """Print the AUC."""
    print(f"{'membership inference':<{WIDTH}}AUC {found.auc:.3f} ({found.low:.3f} - {found.high:.3f}); chance 0.5")
    print(f"{'':<{WIDTH}}finds {100 * found.found:.1f} % of training images at 1 % false positives")


def scores(source: LoadedRun, score: Score, split: ImageArray, num: int, seed: int) -> Tensor:
    """The score (at most num,) float64 of a random choice of a split's images, with their labels."""
    batch = split.batch(subset_indices(len(split), num))
    seeds = image_seeds(seed, len(batch.images))
    found = []
    for start in track(range(0, len(seeds), BATCH_SIZE), "scoring", transient=True, disable=not sys.stderr.isatty()):
        rows = slice(start, start + BATCH_SIZE)
        labels = batch.labels[rows] if source.model.conditional else None
        found.append(score(to_float(batch.images[rows]), seeds[rows], labels).double().cpu())
    return torch.cat(found)
