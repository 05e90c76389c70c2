"""genai latents: show a two-dimensional latent space, decoded and by class

Group: inspect
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from genai.cli.options.arguments import VerbParser, positive, refuse
from genai.cli.options.images import encode_images
from genai.cli.options.labels import LabelOptions, edit_condition
from genai.cli.options.output import OutputOptions, checked, default_path, free_path
from genai.cli.options.predictor import add_predictor_option
from genai.cli.options.run import RequiredCapability, RunOptions
from genai.control.predictors import AttributePredictor, load_predictor
from genai.control.spaces import EditSpace, Points
from genai.errors import UserError
from genai.images import check_number, grid, save_png, to_uint8
from genai.models.capabilities import Decodes, Encodes
from genai.models.seeds import image_seeds
from genai.runs import Run

DECODE = RequiredCapability(Decodes, "decode latents", ("configs/digits/vae-2d.yaml", "configs/digits/gan-2d.yaml"))
PRIOR_SAMPLES = 10_000
MAX_CLASSES = 20  # distinguishable by colour


def parser() -> VerbParser:
    """The options of `genai latents`."""
    verb = VerbParser(
        "latents",
        "RUN [options]",
        "Show a two-dimensional latent space in two pictures: images decoded at a grid of quantiles of the prior, and latents "
        "coloured by class. The latents are the codes of test images; of a GAN, which has no codes, they are samples of the "
        "prior, and a feature network reads the classes of their images and of the grid.",
    )
    RunOptions.add_to(verb)
    verb.add_argument("--side", type=positive, default=20, metavar="N", help="images along each axis (default: 20)")
    text = "maximum number of test images to encode, or of samples of a GAN (default: 10000)"
    verb.add_argument("--num", type=positive, default=10_000, metavar="N", help=text)
    add_predictor_option(verb, "of a GAN: reads the classes")
    LabelOptions.add_to(verb, text=False)
    OutputOptions.add_to(verb, "the PNG of decoded images; the latents are written as NAME-codes.png")
    return verb


def run(arguments: list[str]) -> None:
    """Write the decoded grid and the scatter plot of latents."""
    options = parser().parse(arguments)
    run, labels = RunOptions.from_namespace(options), LabelOptions.from_namespace(options)
    paths = output_paths(OutputOptions.from_namespace(options), run.find())
    source = run.load(DECODE)
    prior = source.model.latents(image_seeds(0, PRIOR_SAMPLES)).cpu()
    if prior.shape[1] != 2:
        raise UserError(
            f"the latent space of {source.run.path} has {prior.shape[1]} dimensions, and only 2 can be shown: "
            "train with two, as configs/digits/vae-2d.yaml and configs/digits/gan-2d.yaml do"
        )
    check_number(options.side**2, source.model.image_shape)
    z = grid_latents(prior, options.side)
    images = source.model.decode(z.to(source.model.device), edit_condition(labels, len(z), source)).clamp(-1, 1).cpu()
    if isinstance(source.model, Encodes):
        refuse(options, ("predictor",), f"on a {type(source.model).__name__}, which encodes test images")
        split = source.test_split()
        pixels, classes = split.batch(range(min(options.num, len(split))))
        is_conditional = getattr(source.model, "conditional", False)
        codes = encode_images(source.model, pixels, classes if is_conditional else None)
        own_labels, names = split.labels[: len(codes)], source.run.record()["class_names"]
        title = f"posterior means of {len(codes):,} test images, {source.run.name}"
        manifold = grid(to_uint8(images), options.side)
    else:
        predictor = load_predictor(options.predictor, source.data(), source.trust)
        codes, names = prior[: options.num], predictor.attributes[: predictor.num_exclusive]
        if not names:
            raise UserError(f"the predictor `{predictor.name}` reads attributes, no classes to colour by: name another one")
        samples = EditSpace("z", source.model).decode(Points(codes, edit_condition(labels, len(codes), source)))
        own_labels = classes_of(predictor, to_uint8(samples))
        title = f"{len(codes):,} latents and the classes of their images, read by `{predictor.name}`"
        manifold = grid(coloured(images, classes_of(predictor, to_uint8(images))), options.side)
    pictures = (manifold, scatter(codes, own_labels, names, title))
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


def grid_latents(prior: Tensor, side: int) -> Tensor:
    """Quantiles of the prior's samples (M, 2), row by row: (side^2, 2); z_1 rises to the right, z_2 upwards."""
    quantiles = (torch.arange(side) + 0.5) / side
    z_1, z_2 = prior.quantile(quantiles, dim=0).unbind(dim=1)
    return torch.cartesian_prod(z_2.flip(0), z_1).flip(1)


def classes_of(predictor: AttributePredictor, images: Tensor) -> np.ndarray:
    """The most likely class of uint8 images (N, C, H, W): (N,)."""
    return predictor.scores(images)[:, : predictor.num_exclusive].argmax(dim=1).numpy()


def coloured(images: Tensor, classes: np.ndarray) -> Tensor:
    """Grey images (N, 1, H, W) in [-1, 1] as uint8 (N, 3, H, W), white in the colour of their class; others as they are."""
    if images.shape[1] != 1:
        return to_uint8(images)
    colors = torch.tensor([to_rgb(f"C{k % 10}") for k in classes])[:, :, None, None]
    return ((images + 1) * 127.5 * colors).round().to(torch.uint8)


def scatter(codes: Tensor, labels: np.ndarray, names: Sequence[str], title: str) -> Image.Image:
    """A plot of latents (N, 2), coloured by class if there are few enough classes."""
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
    axes.set_title(title)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
