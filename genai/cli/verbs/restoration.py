"""genai restoration: how near inpainted and upscaled images come to those that were hidden."""

from collections.abc import Iterator
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from genai.cli.options.arguments import VerbParser, positive
from genai.cli.options.images import asked, edit_parser, load_capable
from genai.cli.options.sampling import step_settings
from genai.cli.verbs.inpaint import make_mask
from genai.errors import UserError
from genai.images import to_float, to_uint8
from genai.metrics.features import FeatureNetwork, default_features, load_extractor
from genai.metrics.reference import subset_indices
from genai.metrics.restoration import Fidelity, fidelity
from genai.models.capabilities import Restores, Upscales
from genai.models.seeds import image_seeds
from genai.runs import Run, merge_json
from genai.runs.data import data_of

FACTORS = (2, 4)


def parser() -> VerbParser:
    """The options of `genai restoration`."""
    verb = edit_parser("restoration", "Score inpainting and upscaling on the test split, against bicubic and the mean colour.")
    verb.add_argument("--num", type=positive, default=500, help="test images (500)")
    verb.add_argument("--mask", default="box", help="what is hidden, as in `genai inpaint` (box)")
    verb.add_argument("--features", default=None, help="feature network; default: the built-in one of the data, else inception")
    return verb


def run(arguments: list[str]) -> None:
    """Print the table and keep it in RUN/metrics.json."""
    options = parser().parse_args(arguments)
    source, model = load_capable(options, Restores, "fill in images")
    settings = step_settings(options, model)
    data = data_of(source, options.trust)
    network = load_extractor(options.features or default_features(data.name))
    data.prepare_data()
    data.setup("test")
    split = data.split("test")
    originals = split.batch(subset_indices(len(split), options.num)).images
    images = to_float(originals)
    condition = asked(options, model, source, len(images))
    seeds = image_seeds(options.seed, len(images))
    mask = make_mask(options.mask, images.shape[-1]).expand(len(images), -1, -1, -1)
    rows = dict(inpainted(model, images, mask, seeds, condition, settings))
    if isinstance(model, Upscales):
        for factor in (f for f in FACTORS if images.shape[-1] % f == 0):
            try:
                rows |= dict(upscaled(model, images, factor, seeds, condition, settings))
            except UserError as error:
                print(f"left out: {error}")
    report(source, {name: fidelity(to_uint8(x.cpu()), originals, network) for name, x in rows.items()}, network, len(images))


def inpainted(
    model: Restores, images: Tensor, mask: Tensor, seeds: list[int], condition: Tensor | None, settings: dict[str, Any]
) -> Iterator[tuple[str, Tensor]]:
    """The model's fillings, and the mean of the pixels that are given."""
    yield "inpainting: model", model.restore(images, mask, seeds, condition, **settings)
    given = 1 - mask
    mean = (images * given).sum(dim=(2, 3), keepdim=True) / given.sum(dim=(2, 3), keepdim=True)
    yield "inpainting: mean", torch.where(mask > 0, mean, images)


def upscaled(
    model: Upscales, images: Tensor, factor: int, seeds: list[int], condition: Tensor | None, settings: dict[str, Any]
) -> Iterator[tuple[str, Tensor]]:
    """The model's enlargements of reduced images, and the bicubic ones."""
    small = avg_pool2d(images, factor)
    yield f"upscaling x{factor}: model", model.upscale(small, seeds, condition, **settings)
    yield f"upscaling x{factor}: bicubic", interpolate(small, scale_factor=float(factor), mode="bicubic").clamp(-1, 1)


def report(run: Run, rows: dict[str, Fidelity], network: FeatureNetwork, num: int) -> None:
    """Print a line for each way, and write them to a run's metrics.json; a zoo entry is left as it is."""
    table = Table("", "PSNR (dB)", "SSIM", "feature distance", caption=f"{num} test images, features `{network.name}`")
    for name, values in rows.items():
        table.add_row(name, f"{values.psnr:.2f}", f"{values.ssim:.4f}", f"{values.feature_distance:.4f}")
    Console().print(table)
    if not run.is_exported:
        scores = {name: values._asdict() for name, values in rows.items()}
        merge_json(run.path / "metrics.json", {"restoration": {"num": num, "features": network.name, "scores": scores}})
