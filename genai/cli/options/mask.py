"""`--mask`: what to fill in."""

import torch
from torch import Tensor

from genai.cli.options.arguments import VerbParser
from genai.cli.options.images import read_picture
from genai.errors import UserError


def add_mask_option(parser: VerbParser) -> None:
    """Add `--mask`."""
    text = "what to fill in: box (the middle), left, right, top, bottom, or an image file that is white there (default: box)"
    parser.add_argument("--mask", default="box", metavar="MASK", help=text)


def make_mask(name: str, size: int) -> Tensor:
    """The mask (1, size, size), 1 where to fill in and 0 elsewhere.

    Raises:
        UserError: there is no such mask, or it covers nothing or everything.
    """
    half = size // 2
    middle, whole = slice(size // 4, size - size // 4), slice(None)
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
    mask = read_picture(name, size, 1, "mask", f"{', '.join(regions)}, or an image that is white where to fill in")
    mask = mask.gt(127).float()
    if mask.mean() in (0, 1):
        color = "white" if mask.mean() else "black"
        raise UserError(f"the mask {name} is {color} everywhere: make it white where to fill in and black elsewhere")
    return mask
