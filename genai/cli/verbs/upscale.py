"""genai upscale: generate high-resolution images from low resolution

Group: sample and edit
"""

from torch.nn.functional import avg_pool2d, interpolate

from genai.cli.options.arguments import VerbParser
from genai.cli.options.images import add_image_options, read_images, tile_rows
from genai.cli.options.labels import LabelOptions, edit_condition
from genai.cli.options.output import OutputOptions, write_tiles
from genai.cli.options.run import Ability, RunOptions, add_seed_option
from genai.cli.options.sampling import SamplerOptions
from genai.errors import UserError
from genai.models.capabilities import Upscales
from genai.models.seeds import image_seeds

UPSCALE = Ability(Upscales, "upscale images", ("configs/digits/diffusion.yaml", "configs/digits/upscale.yaml"))


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
    add_seed_option(verb)
    LabelOptions.add_to(verb)
    SamplerOptions.add_to(verb)
    OutputOptions.add_to(verb)
    return verb


def run(arguments: list[str]) -> None:
    """Write a row for each image: the image, the downsampled image, its bicubic interpolation, the results."""
    options = parser().parse(arguments)
    run, labels = RunOptions.from_namespace(options), LabelOptions.from_namespace(options)
    path = OutputOptions.from_namespace(options).png(run.find(), "upscale")
    source = run.load(UPSCALE)
    size = source.model.image_shape[-1]
    if size % options.factor:
        raise UserError(f"the resolution {size} is not a multiple of {options.factor}: choose another --factor")
    settings = SamplerOptions.from_namespace(options).settings(source, run.device)
    images = read_images(options.images, source)
    small = avg_pool2d(images, options.factor)
    repeated = small.repeat_interleave(options.num, dim=0)
    condition = edit_condition(labels, len(repeated), source)
    results = source.model.upscale(repeated, image_seeds(options.seed, len(repeated)), condition, **settings)
    bicubic = interpolate(small, [size, size], mode="bicubic").clamp(-1, 1)
    metadata = {"Seed": str(options.seed), "Verb": "upscale", **labels.metadata()}
    write_tiles(path, *tile_rows([images, interpolate(small, [size, size]), bicubic], results), source, metadata)
