"""genai diffuse: an image dissolves into noise step by step, and noise becomes an image."""

import torch

from genai.cli.options.arguments import VerbParser, positive
from genai.cli.options.images import asked, edit_parser, load_capable, read_images, write_rows
from genai.cli.options.sampling import step_settings
from genai.errors import UserError
from genai.models.capabilities import ShowsProcess
from genai.models.seeds import image_seeds


def parser() -> VerbParser:
    """The options of `genai diffuse`."""
    verb = edit_parser("diffuse", "Draw the forward process of a picture, and below it the reverse process of samples.")
    verb.add_argument("--images", metavar="IMAGE", nargs="+", default=["test/0"], help="a picture file, or test/7 (test/0)")
    verb.add_argument("--num", type=positive, default=3, help="samples whose emergence is drawn (3)")
    verb.add_argument("--columns", type=positive, default=10, help="noise levels in a row (10)")
    return verb


def run(arguments: list[str]) -> None:
    """A row for each picture, from left to right into noise; then a row for each sample, out of noise."""
    options = parser().parse_args(arguments)
    columns, num = options.columns, options.num
    if columns < 2:
        raise UserError("--columns 1 shows no process: use 2 or more")
    source, model = load_capable(options, ShowsProcess, "diffuse")
    if num > model.sample_chunk:
        raise UserError(f"--num {num} are too many rows: use {model.sample_chunk} or less")
    settings = step_settings(options, model)
    images = read_images(options, source, model)
    forward = model.forward_process(images, image_seeds(options.seed, len(images)), columns)
    condition = asked(options, model, source, num)
    passed = model.reverse_trajectory(image_seeds(options.seed, num), condition, **settings)
    shown = torch.linspace(0, len(passed) - 1, columns).round().long()
    tiles = torch.cat([forward.transpose(0, 1), passed[shown].transpose(0, 1)]).flatten(0, 1)
    write_rows(options, source, model, tiles, columns, "diffuse")
