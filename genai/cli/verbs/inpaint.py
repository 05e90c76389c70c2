"""genai inpaint: fill in a masked part of images

Group: sample and edit
"""

import torch

from genai.cli.options.arguments import VerbParser
from genai.cli.options.images import add_image_options, read_images, tile_rows
from genai.cli.options.mask import add_mask_option, make_mask
from genai.cli.options.picture import PictureOptions
from genai.cli.options.run import INPAINT, RunOptions


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
