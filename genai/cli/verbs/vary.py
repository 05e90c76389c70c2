"""genai vary: variations of a picture."""

from genai.cli.options.arguments import VerbParser
from genai.cli.options.images import add_image_options, asked, edit_parser, load_capable, read_images, rows_of, write_rows
from genai.cli.options.sampling import step_settings
from genai.errors import UserError
from genai.models.capabilities import Varies
from genai.models.seeds import image_seeds


def parser() -> VerbParser:
    """The options of `genai vary`."""
    verb = edit_parser("vary", "Draw variations of pictures: noise is added, and taken away again.")
    add_image_options(verb, 7)
    verb.add_argument("--strength", type=float, default=0.6, help="0 keeps the picture, 1 forgets it (0.6)")
    return verb


def run(arguments: list[str]) -> None:
    """Draw each picture and its variations in a row."""
    options = parser().parse_args(arguments)
    if not 0 <= options.strength <= 1:
        raise UserError(f"--strength {options.strength} is out of range: use 0 to 1")
    source, model = load_capable(options, Varies, "vary")
    settings = step_settings(options, model)
    images = read_images(options, source, model)
    results = images.repeat_interleave(options.num, dim=0)
    condition = asked(options, model, source, len(results))
    results = model.vary(results, image_seeds(options.seed, len(results)), options.strength, condition, **settings)
    write_rows(options, source, model, rows_of([images], results), len(results) // len(images) + 1, "vary")
