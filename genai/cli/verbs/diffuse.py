"""genai diffuse: show the forward process and reverse trajectories

Group: inspect
"""

import torch

from genai.cli.options.arguments import VerbParser, positive
from genai.cli.options.images import IMAGE_HELP, read_images
from genai.cli.options.labels import LabelOptions, edit_condition
from genai.cli.options.output import OutputOptions, write_rows
from genai.cli.options.run import Ability, RunOptions, add_seed_option
from genai.cli.options.sampling import SamplerOptions
from genai.errors import UserError
from genai.models.capabilities import ShowsProcess
from genai.models.seeds import image_seeds

DIFFUSE = Ability(ShowsProcess, "show a diffusion process", ("configs/digits/diffusion.yaml",))


def parser() -> VerbParser:
    """The options of `genai diffuse`."""
    verb = VerbParser(
        "diffuse",
        "RUN [options]",
        "Show the forward process of images, from left to right into noise, and below it the reverse trajectory of samples, "
        "from noise to images.",
    )
    RunOptions.add_to(verb)
    verb.add_argument(
        "--images",
        metavar="IMAGE",
        nargs="+",
        default=["test/0"],
        help=f"images to add noise to: {IMAGE_HELP} (default: test/0)",
    )
    verb.add_argument("--num", type=positive, default=3, metavar="N", help="number of samples (default: 3)")
    verb.add_argument("--columns", type=positive, default=10, metavar="N", help="noise levels shown in a row (default: 10)")
    add_seed_option(verb)
    LabelOptions.add_to(verb)
    SamplerOptions.add_to(verb)
    OutputOptions.add_to(verb, "the PNG to write, or an animation that ends in .gif or .webp")
    return verb


def run(arguments: list[str]) -> None:
    """Write a row for each image, the forward process; then a row for each sample, its reverse trajectory."""
    options = parser().parse(arguments)
    run, labels = RunOptions.from_namespace(options), LabelOptions.from_namespace(options)
    num, columns = options.num, options.columns
    if columns < 2:
        raise UserError("--columns 1 shows no process: use 2 or more")
    path = OutputOptions.from_namespace(options).picture(run.find(), "diffuse")
    source = run.load(DIFFUSE)
    if num > source.model.sample_chunk:
        raise UserError(f"--num {num} is too large: use {source.model.sample_chunk} or less")
    settings = SamplerOptions.from_namespace(options).settings(source, run.device)
    images = read_images(options.images, source)
    forward = source.model.forward_process(images, image_seeds(options.seed, len(images)), columns)
    condition = edit_condition(labels, num, source)
    trajectory = source.model.reverse_trajectory(image_seeds(options.seed, num), condition, **settings)
    shown = torch.linspace(0, len(trajectory) - 1, columns).round().long()
    rows = torch.cat([forward.transpose(0, 1), trajectory[shown].transpose(0, 1)])  # (images + num, columns, C, H, W)
    write_rows(path, rows, source, {"Seed": str(options.seed), "Verb": "diffuse", **labels.metadata()})
