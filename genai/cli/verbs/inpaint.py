"""genai inpaint: fill in a masked part of images

Group: sample and edit
"""

import torch
from torch import Tensor

from genai.cli.options.arguments import VerbParser
from genai.cli.options.images import add_image_options, read_images, read_picture, tile_rows
from genai.cli.options.picture import PictureOptions
from genai.cli.options.run import RequiredCapability, RunOptions
from genai.errors import UserError
from genai.models.capabilities import Restores

INPAINT = RequiredCapability(Restores, "inpaint images", ("configs/digits/diffusion.yaml", "configs/digits/inpaint.yaml"))


def parser() -> VerbParser:
    """The options of `genai inpaint`."""
    verb = VerbParser(
        "inpaint", "RUN IMAGE... [options]", "Fill in a masked part of images; all pixels outside the mask stay as they are."
    )
    RunOptions.add_to(verb)
    add_image_options(verb, 6)
    add_mask_option(verb)
    PictureOptions.add_to(verb)
    return verb


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


def run(arguments: list[str]) -> None:
    """Write a row for each image: the image, the masked image, the results."""
    options = parser().parse(arguments)
    picture = PictureOptions.from_namespace(options).start("inpaint", INPAINT)
    images = read_images(options.images, picture.source)
    mask = make_mask(options.mask, images.shape[-1]).expand(len(images), -1, -1, -1)
    repeated, masks = (picture.repeated(tensor, options.num) for tensor in (images, mask))
    seeds, condition = picture.seeds(len(repeated)), picture.condition(len(repeated))
    results = picture.source.model.restore(repeated, masks, seeds, condition, **picture.settings)
    masked = torch.where(mask > 0, torch.zeros_like(images), images)
    picture.write(*tile_rows([images, masked], results))
