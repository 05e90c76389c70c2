"""genai vary: generate variations of images (SDEdit)

Group: sample and edit
"""

from genai.cli.options.arguments import VerbParser, fraction
from genai.cli.options.images import add_image_options, read_images, tile_rows
from genai.cli.options.labels import LabelOptions, edit_condition
from genai.cli.options.output import OutputOptions, write_tiles
from genai.cli.options.run import Ability, RunOptions, add_seed_option
from genai.cli.options.sampling import SamplerOptions
from genai.models.capabilities import Varies
from genai.models.seeds import image_seeds

VARY = Ability(Varies, "vary images", ("configs/digits/diffusion.yaml",))


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
    add_seed_option(verb)
    LabelOptions.add_to(verb)
    SamplerOptions.add_to(verb)
    OutputOptions.add_to(verb)
    return verb


def run(arguments: list[str]) -> None:
    """Write a row for each image: the image, then its variations."""
    options = parser().parse(arguments)
    run, labels = RunOptions.from_namespace(options), LabelOptions.from_namespace(options)
    path = OutputOptions.from_namespace(options).png(run.find(), "vary")
    source = run.load(VARY)
    settings = SamplerOptions.from_namespace(options).settings(source, run.device)
    images = read_images(options.images, source)
    repeated = images.repeat_interleave(options.num, dim=0)
    condition = edit_condition(labels, len(repeated), source)
    seeds = image_seeds(options.seed, len(repeated))
    results = source.model.vary(repeated, seeds, options.strength, condition, **settings)
    metadata = {"Seed": str(options.seed), "Verb": "vary", **labels.metadata()}
    write_tiles(path, *tile_rows([images], results), source, metadata)
