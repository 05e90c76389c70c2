"""genai upscale: a larger picture from a small one."""

import torch
from torch.nn.functional import avg_pool2d, interpolate

from genai.cli.options.arguments import VerbParser
from genai.cli.options.images import add_image_options, asked, edit_parser, load_capable, read_images, rows_of, write_rows
from genai.cli.options.sampling import step_settings
from genai.errors import UserError
from genai.models.capabilities import Upscales
from genai.models.seeds import image_seeds


def parser() -> VerbParser:
    """The options of `genai upscale`."""
    verb = edit_parser("upscale", "Reduce pictures, and draw them large again: reduced, bicubic, drawn.")
    add_image_options(verb, 4)
    verb.add_argument("--factor", type=int, choices=(2, 4), default=2, help="how much smaller the picture is made (2)")
    return verb


def run(arguments: list[str]) -> None:
    """Draw each picture, the reduced one, its bicubic enlargement and the model's in a row."""
    options = parser().parse_args(arguments)
    source, model = load_capable(options, Upscales, "upscale")
    if model.image_shape[-1] % options.factor:
        raise UserError(f"{model.image_shape[-1]} pixels are no multiple of {options.factor}: choose another --factor")
    settings = step_settings(options, model)
    images = read_images(options, source, model)
    small = avg_pool2d(images, options.factor)
    repeated = small.repeat_interleave(options.num, dim=0)
    condition = asked(options, model, source, len(repeated))
    results = model.upscale(repeated, image_seeds(options.seed, len(repeated)), condition, **settings)
    size = list(images.shape[2:])
    bicubic = interpolate(small, size, mode="bicubic").clamp(-1, 1)
    tiles = rows_of([images, interpolate(small, size), bicubic], results)
    write_rows(options, source, model, torch.as_tensor(tiles), len(results) // len(images) + 3, "upscale")
