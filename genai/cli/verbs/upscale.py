"""genai upscale: generate high-resolution images from low resolution

Group: sample and edit
"""

from torch.nn.functional import avg_pool2d, interpolate

from genai.cli.options.arguments import VerbParser
from genai.cli.options.images import add_image_options, read_images, tile_rows
from genai.cli.options.picture import PictureOptions
from genai.cli.options.run import RequiredCapability, RunOptions
from genai.errors import UserError
from genai.models.capabilities import Upscales

UPSCALE = RequiredCapability(Upscales, "upscale images", ("configs/digits/diffusion.yaml", "configs/digits/upscale.yaml"))


def parser() -> VerbParser:
    """The options of `genai upscale`."""
    verb = VerbParser(
        "upscale",
        "RUN IMAGE... [options]",
        "Downsample images and generate them at full resolution again. A row shows the image, the downsampled image, its "
        "bicubic interpolation and the results.",
    )
    RunOptions.add_to(verb)
    add_image_options(verb, 4)
    verb.add_argument("--factor", type=int, choices=(2, 4), default=2, help="downsampling factor (default: 2)")
    PictureOptions.add_to(verb)
    return verb


def run(arguments: list[str]) -> None:
    """Write a row for each image: the image, the downsampled image, its bicubic interpolation, the results."""
    options = parser().parse(arguments)
    picture = PictureOptions.from_namespace(options).start("upscale", UPSCALE)
    size = picture.source.model.image_shape[-1]
    if size % options.factor:
        raise UserError(f"the resolution {size} is not a multiple of {options.factor}: choose another --factor")
    images = read_images(options.images, picture.source)
    small = avg_pool2d(images, options.factor)
    repeated = picture.repeated(small, options.num)
    seeds, condition = picture.seeds(len(repeated)), picture.condition(len(repeated))
    results = picture.source.model.upscale(repeated, seeds, condition, **picture.settings)
    bicubic = interpolate(small, [size, size], mode="bicubic").clamp(-1, 1)
    picture.write(*tile_rows([images, interpolate(small, [size, size]), bicubic], results))
