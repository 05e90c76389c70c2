"""genai filmstrip: the same seeds after chosen epochs, side by side."""

import re
from pathlib import Path

from PIL import Image, ImageDraw

from genai.cli.options.arguments import VerbParser, output_path, whole_numbers
from genai.errors import UserError
from genai.images import save_png
from genai.runs import find

CAPTION = 18


def parser() -> VerbParser:
    """The options of `genai filmstrip`."""
    verb = VerbParser(prog="genai filmstrip", description="Lay the samples of chosen epochs side by side.")
    verb.add_argument("run", metavar="RUN", help="run directory or experiment (its newest run)")
    verb.add_argument("--epochs", type=whole_numbers, help="1,60,200; default: first, middle and last")
    verb.add_argument("--out", help="the PNG to write; default: a new one in RUN/samples")
    verb.add_argument("--force", action="store_true", help="write over --out if it is there")
    return verb


def epochs_drawn(folder: Path) -> dict[int, Path]:
    """Epoch -> the picture that the gallery drew after it."""
    matches = ((re.fullmatch(r"epoch-(\d+)", path.stem), path) for path in sorted(folder.glob("epoch-*.png")))
    return {int(match.group(1)): path for match, path in matches if match}


def choose(drawn: dict[int, Path], wanted: list[int] | None) -> list[int]:
    """The epochs to show; UserError for one that was not drawn."""
    epochs = list(drawn)
    if wanted is None:
        return sorted({epochs[0], epochs[len(epochs) // 2], epochs[-1]})
    missing = [epoch for epoch in wanted if epoch not in drawn]
    if missing:
        raise UserError(f"epoch {missing[0]} was not drawn: there are {', '.join(map(str, epochs))}")
    return wanted


def lay_out(pictures: list[Image.Image], captions: list[str]) -> Image.Image:
    """Pictures in a row, a caption above each."""
    gap = 8
    height = max(picture.height for picture in pictures) + CAPTION
    strip = Image.new("RGB", (sum(p.width + gap for p in pictures) - gap, height), "white")
    draw = ImageDraw.Draw(strip)
    left = 0
    for picture, caption in zip(pictures, captions, strict=True):
        draw.text((left + 2, 2), caption, fill="black")
        strip.paste(picture.convert("RGB"), (left, CAPTION))
        left += picture.width + gap
    return strip


def run(arguments: list[str]) -> None:
    """Write the filmstrip."""
    options = parser().parse_args(arguments)
    source = find(options.run)
    if source.is_exported:
        raise UserError(f"{source.path} is a zoo entry, which has no pictures of its epochs: name a run directory")
    drawn = epochs_drawn(source.path / "samples")
    if not drawn:
        raise UserError(f"{source.path} has no gallery: train with --gallery.every_n_epochs 1")
    epochs = choose(drawn, options.epochs)
    path = output_path(options.out, source.path / "samples" / "filmstrip.png", options.force)
    strip = lay_out([Image.open(drawn[epoch]) for epoch in epochs], [f"epoch {epoch}" for epoch in epochs])
    save_png(strip, path, {"Run": source.name, "Epochs": ",".join(map(str, epochs))})
    print(f"wrote {path}")
