"""genai latents: show a two-dimensional latent space, decoded and by class

Group: inspect
"""

from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from genai.cli.options.arguments import VerbParser, positive
from genai.cli.options.labels import LabelOptions, edit_condition
from genai.cli.options.output import OutputOptions, checked, default_path, free_path
from genai.cli.options.run import Ability, Loaded, RunOptions
from genai.errors import UserError
from genai.images import check_number, grid, save_png, to_float, to_uint8
from genai.models.capabilities import Encodes
from genai.models.seeds import image_seeds
from genai.runs import Run

ENCODE = Ability(Encodes, "encode images", ("configs/digits/vae-2d.yaml",))
PRIOR_SAMPLES = 10_000
MAX_CLASSES = 20  # distinguishable by colour
BATCH_SIZE = 500


def parser() -> VerbParser:
    """The options of `genai latents`."""
    verb = VerbParser(
        "latents",
        "RUN [options]",
        "Show a two-dimensional latent space in two pictures: images decoded at a grid of quantiles of the prior, and codes of "
        "the test split, coloured by class.",
    )
    RunOptions.add_to(verb)
    verb.add_argument("--side", type=positive, default=20, metavar="N", help="images along each axis (default: 20)")
    text = "maximum number of test images to encode (default: 10000)"
    verb.add_argument("--num", type=positive, default=10_000, metavar="N", help=text)
    LabelOptions.add_to(verb, text=False)
    OutputOptions.add_to(verb, "the PNG of decoded images; the codes are written as NAME-codes.png")
    return verb


def run(arguments: list[str]) -> None:
    """Write the decoded grid and the scatter plot of codes."""
    options = parser().parse(arguments)
    run, labels = RunOptions.from_namespace(options), LabelOptions.from_namespace(options)
    paths = output_paths(OutputOptions.from_namespace(options), run.find())
    source = run.load(ENCODE)
    prior = source.model.latents(image_seeds(0, PRIOR_SAMPLES)).cpu()
    if prior.shape[1] != 2:
        raise UserError(
            f"the latent space of {source.run.path} has {prior.shape[1]} dimensions, and only 2 can be shown: "
            "train with --model.init_args.latent_dim 2, as configs/digits/vae-2d.yaml does"
        )
    check_number(options.side**2, source.model.image_shape)
    split = source.test_split()
    codes = encode(source.model, to_float(split.batch(range(min(options.num, len(split)))).images), split.labels)
    pictures = (decoded_grid(source, labels, prior, options.side), scatter(codes, split.labels[: len(codes)], source.run))
    metadata = {"Model": type(source.model).__name__, "Run": source.run.name, "Verb": "latents"}
    for picture, path in zip(pictures, paths, strict=True):
        save_png(picture, path, metadata)
        print(f"wrote {path}")


def output_paths(output: OutputOptions, run: Run) -> tuple[Path, Path]:
    """The two PNGs: --out NAME.png and NAME-codes.png, or new ones.

    Raises:
        UserError: one of them exists, or --out does not end in .png.
    """
    if output.out is None:
        return free_path(default_path(run, "latents.png")), free_path(default_path(run, "latents-codes.png"))
    path = output.png(run, "latents")
    return path, checked(path.with_stem(f"{path.stem}-codes"), output.force)


def decoded_grid(source: Loaded, labels: LabelOptions, prior: Tensor, side: int) -> Image.Image:
    """Images decoded at quantiles of the prior's samples (M, 2): the first latent rises to the right, the second upwards."""
    quantiles = (torch.arange(side) + 0.5) / side
    z_1, z_2 = prior.quantile(quantiles, dim=0).unbind(dim=1)
    z = torch.cartesian_prod(z_2.flip(0), z_1).flip(1)  # row by row from the top: (side^2, 2)
    images = source.model.decode(z.to(source.model.device), edit_condition(labels, len(z), source))
    return grid(to_uint8(images).cpu(), side)


def encode(model: Encodes, images: Tensor, labels: np.ndarray) -> Tensor:
    """Codes (N, 2) of images (N, C, H, W) in [-1, 1]."""
    conditional = getattr(model, "conditional", False)
    parts = []
    for start in range(0, len(images), BATCH_SIZE):
        batch = images[start : start + BATCH_SIZE]
        condition = torch.as_tensor(labels[start : start + len(batch)]) if conditional else None
        parts.append(model.encode(batch, condition).cpu())
    return torch.cat(parts)


def scatter(codes: Tensor, labels: np.ndarray, run: Run) -> Image.Image:
    """A plot of codes (N, 2), coloured by class if there are few enough classes."""
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
    axes.set_title(f"posterior means of {len(codes):,} test images, {run.name}")
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
