"""genai filmstrip: show the samples of several epochs side by side

Group: inspect
"""

from pathlib import Path

from genai.cli.options.arguments import VerbParser, add_trust_option, positives
from genai.cli.options.output import MOTION, OutputOptions
from genai.errors import UserError
from genai.images import ANIMATIONS, save_animation, save_png, side_by_side, titled
from genai.report.html.pictures import epoch_grids, read_grid
from genai.runs import find


def parser() -> VerbParser:
    """The options of `genai filmstrip`."""
    verb = VerbParser(
        "filmstrip", "RUN [options]", "Show the sample grids of several epochs side by side, from the same seeds."
    )
    verb.add_argument("run", metavar="RUN", help="run directory or experiment (its newest run)")
    text = "such as 1,60,200; default: first, middle and last; all in an animation"
    verb.add_argument("--epochs", type=positives, metavar="LIST", help=text)
    add_trust_option(verb)
    OutputOptions.add_to(verb, MOTION)
    return verb


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
    path = OutputOptions.from_namespace(options).picture(source, "filmstrip")
    is_animation = path.suffix in ANIMATIONS
    epochs = list(grids) if is_animation and options.epochs is None else choose(grids, options.epochs)
    panels = [titled(read_grid(grids[epoch]), f"epoch {epoch}") for epoch in epochs]
    metadata = {"Run": source.name, "Epochs": ",".join(map(str, epochs))}
    if is_animation:
        save_animation(panels, path, metadata)
    else:
        save_png(side_by_side(panels), path, metadata)
    print(f"wrote {path}")
