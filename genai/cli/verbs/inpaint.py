"""genai inpaint: fill in a part of a picture."""

import torch
from torch import Tensor

from genai.cli.options.arguments import VerbParser
from genai.cli.options.images import (
    add_image_options,
    asked,
    edit_parser,
    load_capable,
    read_images,
    read_picture,
    rows_of,
    write_rows,
)
from genai.cli.options.sampling import step_settings
from genai.errors import UserError
from genai.models.capabilities import Restores
from genai.models.seeds import image_seeds


def parser() -> VerbParser:
    """The options of `genai inpaint`."""
    verb = edit_parser("inpaint", "Fill in a part of pictures; all other pixels stay exactly as they are.")
    add_image_options(verb, 6)
    verb.add_argument(
        "--mask", default="box", help="box (the middle), left, right, top, bottom, or a picture, filled in where white"
    )
    return verb


def make_mask(name: str, size: int) -> Tensor:
    """What to fill in: (1, size, size) of 0 and 1.

    Raises:
        UserError: there is no such mask, or it fills in nothing or everything.
    """
    half = size // 2
    middle = slice(size // 4, size - size // 4)
    whole = slice(None)
    regions = {
        "box": (middle, middle),
        "left": (whole, slice(half)),
        "right": (whole, slice(half, None)),
        "top": (slice(half), whole),
        "bottom": (slice(half, None), whole),
    }
    mask = torch.zeros(1, size, size)
    if name in regions:
        mask[0, regions[name][0], regions[name][1]] = 1
        return mask
    choice = f"{', '.join(regions)}, or a picture that is white where to fill in"
    mask = read_picture(name, size, 1, "mask", choice).gt(127).float()
    if mask.mean() in (0, 1):
        raise UserError(f"the mask {name} is {'white' if mask.mean() else 'black'} all over: make white what to fill in")
    return mask


def run(arguments: list[str]) -> None:
    """Draw each picture, what is given of it, and the fillings in a row."""
    options = parser().parse_args(arguments)
    source, model = load_capable(options, Restores, "inpaint")
    settings = step_settings(options, model)
    images = read_images(options, source, model)
    mask = make_mask(options.mask, model.image_shape[-1]).expand(len(images), -1, -1, -1)
    repeated, masks = images.repeat_interleave(options.num, dim=0), mask.repeat_interleave(options.num, dim=0)
    condition = asked(options, model, source, len(repeated))
    results = model.restore(repeated, masks, image_seeds(options.seed, len(repeated)), condition, **settings)
    given = torch.where(mask > 0, torch.zeros_like(images), images)
    write_rows(options, source, model, rows_of([images, given], results), len(results) // len(images) + 2, "inpaint")
