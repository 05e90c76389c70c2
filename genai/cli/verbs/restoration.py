"""genai restoration: score inpainting and upscaling on held-out images

Group: inspect
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from genai.cli.options.arguments import VerbParser, positive
from genai.cli.options.labels import LabelOptions, edit_condition
from genai.cli.options.mask import add_mask_option, make_mask
from genai.cli.options.run import INPAINT, RunOptions, add_seed_option
from genai.cli.options.sampling import SamplerOptions
from genai.errors import UserError
from genai.images import to_float, to_uint8
from genai.metrics.features import FeatureNetwork, default_features, load_extractor
from genai.metrics.reference import subset_indices
from genai.metrics.restoration import Fidelity, fidelity
from genai.models.capabilities import Restores, Upscales
from genai.models.seeds import image_seeds
from genai.runs import Run, merge_json

FACTORS = (2, 4)


def parser() -> VerbParser:
    """The options of `genai restoration`."""
    verb = VerbParser(
        "restoration",
        "RUN [options]",
        "Score inpainting and upscaling on the test split, beside two baselines: the mean colour and bicubic interpolation. "
        "The scores are written to RUN/metrics.json.",
    )
    RunOptions.add_to(verb)
    verb.add_argument("--num", type=positive, default=500, metavar="N", help="number of test images (default: 500)")
    add_mask_option(verb)
    text = "feature network; default: the built-in one for the data, else inception"
    verb.add_argument("--features", metavar="NAME", help=text)
    add_seed_option(verb)
    LabelOptions.add_to(verb)
    SamplerOptions.add_to(verb)
    return verb


def run(arguments: list[str]) -> None:
    """Print the table and write it to RUN/metrics.json."""
    options = parser().parse(arguments)
    run, labels = RunOptions.from_namespace(options), LabelOptions.from_namespace(options)
    source = run.load(INPAINT)
    settings = SamplerOptions.from_namespace(options).settings(source, run.device)
    data = source.data()
    network = load_extractor(options.features or default_features(data.name))
    split = data.split("test")
    originals = split.batch(subset_indices(len(split), options.num)).images
    images = to_float(originals)
    condition = edit_condition(labels, len(images), source)
    seeds = image_seeds(options.seed, len(images))
    mask = make_mask(options.mask, images.shape[-1]).expand(len(images), -1, -1, -1)
    rows = dict(inpainted(source.model, images, mask, seeds, condition, settings))
    if isinstance(source.model, Upscales):
        for factor in (f for f in FACTORS if images.shape[-1] % f == 0):
            try:
                rows |= dict(upscaled(source.model, images, factor, seeds, condition, settings))
            except UserError as error:
                print(f"upscaling x{factor} is skipped: {error}")
    fidelities = {name: fidelity(to_uint8(x.cpu()), originals, network) for name, x in rows.items()}
    report(source.run, fidelities, network, len(images))


def inpainted(
    model: Restores, images: Tensor, mask: Tensor, seeds: Sequence[int], condition: Tensor | None, settings: dict[str, Any]
) -> Iterator[tuple[str, Tensor]]:
    """The images inpainted by the model, and with the mean of the known pixels."""
    yield "inpainting: model", model.restore(images, mask, seeds, condition, **settings)
    known = 1 - mask
    mean = (images * known).sum(dim=(2, 3), keepdim=True) / known.sum(dim=(2, 3), keepdim=True)
    yield "inpainting: mean", torch.where(mask > 0, mean, images)


def upscaled(
    model: Upscales, images: Tensor, factor: int, seeds: Sequence[int], condition: Tensor | None, settings: dict[str, Any]
) -> Iterator[tuple[str, Tensor]]:
    """Downsampled images upscaled by the model, and by bicubic interpolation."""
    small = avg_pool2d(images, factor)
    yield f"upscaling x{factor}: model", model.upscale(small, seeds, condition, **settings)
    yield f"upscaling x{factor}: bicubic", interpolate(small, scale_factor=float(factor), mode="bicubic").clamp(-1, 1)


def report(run: Run, rows: dict[str, Fidelity], network: FeatureNetwork, num: int) -> None:
    """Print one row per method, and write the scores to the run's metrics.json; a zoo entry is not changed."""
    table = Table("method", caption=f"{num:,} test images, features `{network.name}`")
    for column in ("PSNR (dB)", "SSIM", "feature distance"):
        table.add_column(column, justify="right")
    for name, values in rows.items():
        table.add_row(name, f"{values.psnr:.2f}", f"{values.ssim:.4f}", f"{values.feature_distance:.4f}")
    Console().print(table)
    if not run.is_exported:
        scores = {name: values._asdict() for name, values in rows.items()}
        merge_json(run.path / "metrics.json", {"restoration": {"num": num, "features": network.name, "scores": scores}})
