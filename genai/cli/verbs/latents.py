"""genai latents: a latent space of two numbers as pictures, what is decoded where and which class lies where."""

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from genai.cli.options.arguments import VerbParser, output_path, positive
from genai.cli.options.codes import A_VAE
from genai.cli.options.images import asked, load_capable, picture_parser, test_split
from genai.data.base import ImageArray
from genai.errors import UserError
from genai.images import grid, save_png, to_float, to_uint8
from genai.models.base import ImageModel
from genai.models.capabilities import Encodes
from genai.models.seeds import image_seeds
from genai.runs import Run

PRIOR_SAMPLES = 10_000
MAX_CLASSES = 20  # that colours tell apart
BATCH_SIZE = 500


def parser() -> VerbParser:
    """The options of `genai latents`."""
    verb = picture_parser("latents", "Draw a two-dimensional latent space: decoded on a grid, and the encoded test split.")
    verb.add_argument("--side", type=positive, default=20, help="images along each axis of the grid (20)")
    verb.add_argument("--num", type=positive, default=10_000, help="test images encoded, at most (10000)")
    return verb


def run(arguments: list[str]) -> None:
    """Write the manifold, and beside it the codes."""
    options = parser().parse_args(arguments)
    source, model = load_capable(options, Encodes, "encode", A_VAE)
    paths = output_paths(options, source)
    prior = model.latents(image_seeds(0, PRIOR_SAMPLES)).cpu()
    if prior.shape[1] != 2:
        raise UserError(
            f"{source.path} has a latent of {prior.shape[1]} numbers, and two can be drawn: "
            "train one with --model.init_args.latent_dim 2, such as configs/mnist/vae-2d.yaml"
        )
    split = test_split(source, options.trust)
    pictures = (manifold(options, source, model, prior), scatter(*encoded(model, split, options.num), source))
    metadata = {"Model": type(model).__name__, "Run": source.name, "Verb": "latents"}
    for picture, path in zip(pictures, paths, strict=True):
        save_png(picture, path, metadata)
    print(f"wrote {paths[0]} and {paths[1]}")


def output_paths(options: argparse.Namespace, run: Run) -> list[Path]:
    """Where the two pictures go: --out NAME.png and NAME-codes.png, or new ones.

    Raises:
        UserError: one is there already, or would be no PNG.
    """
    folder, prefix = (Path(), f"{run.path.name}-") if run.is_exported else (run.path / "samples", "")
    if options.out is None:
        return [output_path(None, folder / f"{prefix}{name}.png", False) for name in ("manifold", "codes")]
    path = Path(options.out)
    if path.suffix != ".png":
        raise UserError(f"--out {path} should be the name of a file that ends in .png")
    return [output_path(str(given), folder, options.force) for given in (path, path.with_stem(f"{path.stem}-codes"))]


def manifold(options: argparse.Namespace, run: Run, model: Encodes, prior: Tensor) -> Image.Image:
    """Images decoded where the prior's samples (M, 2) have even shares left and below: the second latent rises upwards."""
    assert isinstance(model, ImageModel)
    shares = (torch.arange(options.side) + 0.5) / options.side
    across, up = prior.quantile(shares, dim=0).unbind(dim=1)
    z = torch.cartesian_prod(up.flip(0), across).flip(1)  # row by row from above: (side^2, 2)
    images = model.decode(z.to(model.device), asked(options, model, run, len(z)))
    return grid(to_uint8(images).cpu(), options.side)


def encoded(model: Encodes, split: ImageArray, num: int) -> tuple[Tensor, np.ndarray]:
    """Codes (N, 2) of the first `num` images at most, and their labels."""
    assert isinstance(model, ImageModel)
    parts = []
    for start in range(0, min(num, len(split)), BATCH_SIZE):
        images, labels = split.batch(range(start, min(start + BATCH_SIZE, num, len(split))))
        parts.append(model.encode(to_float(images), labels if model.conditional else None).cpu())
    return torch.cat(parts), np.asarray(split.labels[: sum(map(len, parts))])


def scatter(codes: Tensor, labels: np.ndarray, run: Run) -> Image.Image:
    """A point for each code (N, 2), in the colour of its class where there are classes few enough."""
    names = run.record()["class_names"]
    classes = range(len(names)) if labels.ndim == 1 and len(names) <= MAX_CLASSES else []
    figure = Figure(figsize=(8, 8), dpi=120, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot(aspect="equal", xlabel="$z_1$", ylabel="$z_2$")
    x, y = codes.numpy().T
    size = 4 if len(x) > 2000 else 16
    for k in classes:
        rows, marker = labels == k, "o" if k < 10 else "^"
        axes.scatter(x[rows], y[rows], s=size, color=f"C{k % 10}", marker=marker, label=names[k], linewidths=0)
    if classes:
        axes.legend(markerscale=2, loc="upper right")
    else:
        axes.scatter(x, y, s=size, linewidths=0)
    axes.set_title(f"{len(codes):,} test images of {run.name}, by the means of their posteriors")
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
