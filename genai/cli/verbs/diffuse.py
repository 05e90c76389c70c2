"""genai diffuse: show the forward process and reverse trajectories

Group: inspect
"""

import torch

from genai.cli.options.arguments import VerbParser, positive
from genai.cli.options.images import IMAGE_HELP, read_images
from genai.cli.options.output import MOTION
from genai.cli.options.picture import PictureOptions
from genai.cli.options.run import RequiredCapability, RunOptions
from genai.errors import UserError
from genai.images import check_number
from genai.models.capabilities import ShowsProcess

DIFFUSE = RequiredCapability(ShowsProcess, "show a diffusion process", ("configs/digits/diffusion.yaml",))


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
    PictureOptions.add_to(verb, MOTION)
    return verb


def run(arguments: list[str]) -> None:
    """Write a row for each image, the forward process; then a row for each sample, its reverse trajectory."""
    options = parser().parse(arguments)
    num, columns = options.num, options.columns
    if columns < 2:
        raise UserError("--columns 1 shows no process: use 2 or more")
    picture = PictureOptions.from_namespace(options).start("diffuse", DIFFUSE, is_motion=True)
    model = picture.source.model
    if num > model.sample_chunk:
        raise UserError(f"--num {num} is too large: use {model.sample_chunk} or less")
    check_number(columns * (num + len(options.images)), model.image_shape)
    images = read_images(options.images, picture.source)
    forward = model.forward_process(images, picture.seeds(len(images)), columns)
    trajectory = model.reverse_trajectory(picture.seeds(num), picture.condition(num), **picture.settings)
    shown = torch.linspace(0, len(trajectory) - 1, columns).round().long()
    tiles = torch.cat([forward.transpose(0, 1), trajectory[shown].transpose(0, 1)]).flatten(0, 1)
    picture.write(tiles, columns)
