"""genai vary: generate variations of images (SDEdit)

Group: sample and edit
"""

from genai.cli.options.arguments import VerbParser, fraction
from genai.cli.options.images import add_image_options, read_images, tile_rows
from genai.cli.options.picture import PictureOptions
from genai.cli.options.run import RequiredCapability, RunOptions
from genai.models.capabilities import Varies

VARY = RequiredCapability(Varies, "vary images", ("configs/digits/diffusion.yaml",))


def parser() -> VerbParser:
    """The options of `genai vary`."""
    verb = VerbParser(
        "vary", "RUN IMAGE... [options]", "Generate variations of images: add noise, and denoise again from there (SDEdit)."
    )
    RunOptions.add_to(verb)
    add_image_options(verb, 7)
    verb.add_argument(
        "--strength",
        type=fraction,
        default=0.6,
        metavar="X",
        help="share of the noise to add: 0 keeps the image, 1 ignores it (default: 0.6)",
    )
    PictureOptions.add_to(verb)
    return verb


def run(arguments: list[str]) -> None:
    """Write a row for each image: the image, then its variations."""
    options = parser().parse(arguments)
    picture = PictureOptions.from_namespace(options).start("vary", VARY)
    images = read_images(options.images, picture.source)
    repeated = picture.repeated(images, options.num)
    seeds, condition = picture.seeds(len(repeated)), picture.condition(len(repeated))
    results = picture.source.model.vary(repeated, seeds, options.strength, condition, **picture.settings)
    picture.write(*tile_rows([images], results))
