"""genai filmstrip: show the samples of several epochs side by side

Group: inspect
"""

import io
import re
import warnings
from pathlib import Path

from PIL import Image

from genai.cli.options.arguments import VerbParser, add_trust_option, positives
from genai.cli.options.output import OutputOptions
from genai.data.archives import MAX_BYTES
from genai.errors import DamagedFileError, UserError
from genai.files import read_bounded
from genai.images import save_png, side_by_side, titled
from genai.runs import find


def parser() -> VerbParser:
    """The options of `genai filmstrip`."""
    verb = VerbParser(
        "filmstrip", "RUN [options]", "Show the sample grids of several epochs side by side, from the same seeds."
    )
    verb.add_argument("run", metavar="RUN", help="run directory or experiment (its newest run)")
    text = "such as 1,60,200; default: first, middle and last"
    verb.add_argument("--epochs", type=positives, metavar="LIST", help=text)
    add_trust_option(verb)
    OutputOptions.add_to(verb)
    return verb


def epoch_grids(folder: Path) -> dict[int, Path]:
    """Epoch -> the sample grid that the gallery callback wrote after it."""
    matches = ((re.fullmatch(r"epoch-(\d+)", path.stem), path) for path in sorted(folder.glob("epoch-*.png")))
    return {int(match.group(1)): path for match, path in matches if match}


def read_grid(path: Path) -> Image.Image:
    """A sample grid; DamagedFileError where it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Pillow's, of a picture that is too large
            picture = Image.open(io.BytesIO(read_bounded(path, MAX_BYTES)), formats=["PNG"])
            picture.load()
    except DamagedFileError:
        raise
    except Exception as error:  # Pillow raises nearly anything on damaged bytes
        raise DamagedFileError(f"{path} cannot be read ({type(error).__name__}): choose other --epochs") from None
    return picture


def choose(grids: dict[int, Path], wanted: list[int] | None) -> list[int]:
    """The epochs to show; UserError for one without a grid."""
    epochs = list(grids)
    if wanted is None:
        return sorted({epochs[0], epochs[len(epochs) // 2], epochs[-1]})
    missing = [epoch for epoch in wanted if epoch not in grids]
    if missing:
        raise UserError(f"there is no sample grid of epoch {missing[0]}: choose from {', '.join(map(str, epochs))}")
    return wanted


def run(arguments: list[str]) -> None:
    """Write the filmstrip."""
    options = parser().parse(arguments)
    source = find(options.run)
    if source.is_exported:
        raise UserError(f"{source.path} is a zoo entry, which has no sample grids of its epochs: name a run directory")
    grids = epoch_grids(source.path / "samples")
    if not grids:
        raise UserError(f"{source.path} has no sample grids: train with --gallery.every_n_epochs 1")
    epochs = choose(grids, options.epochs)
    path = OutputOptions.from_namespace(options).png(source, "filmstrip")
    strip = side_by_side([titled(read_grid(grids[epoch]), f"epoch {epoch}") for epoch in epochs])
    save_png(strip, path, {"Run": source.name, "Epochs": ",".join(map(str, epochs))})
    print(f"wrote {path}")
