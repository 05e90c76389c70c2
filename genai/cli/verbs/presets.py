"""genai presets: list what `genai fit -c NAME` can train

Group: inspect
"""

import textwrap
from itertools import groupby

from rich.console import Console
from rich.text import Text

from genai.cli.options.arguments import VerbParser
from genai.errors import UserError
from genai.shipped import presets


def parser() -> VerbParser:
    """The options of `genai presets`."""
    verb = VerbParser(
        "presets",
        "[WORD...]",
        "List the presets: what each trains, how long the training takes, and the test score that it reaches, with the floor "
        "(real images against real images) in brackets. `genai fit -c NAME` trains one.",
    )
    verb.add_argument("words", metavar="WORD", nargs="*", default=[], help="list those with each WORD in name or description")
    return verb


def run(arguments: list[str]) -> None:
    """Print the presets of each dataset."""
    options = parser().parse(arguments)
    words = [word.lower() for word in options.words]
    found = [preset for preset in presets() if all(word in f"{preset.name} {preset.what}".lower() for word in words)]
    if not found:
        raise UserError(f"no preset has {' and '.join(options.words)} in its name or description: `genai presets` lists all")
    console = Console(highlight=False)
    width = max(len(preset.name) for preset in found)
    for data, group in groupby(found, key=lambda preset: preset.data):
        console.print(Text(f"{data:<{width}}  {'minutes':>9}  score (floor)", style="bold"))
        for preset in group:
            minutes = f"{preset.minutes or '-'}{' GPU' if preset.on_gpu else ''}"
            console.print(Text(f"{preset.name:<{width}}  {minutes:>9}  {preset.score or '-'}"))
            lines = textwrap.wrap(preset.what, console.width - 4, break_on_hyphens=False)
            console.print(Text(textwrap.indent("\n".join(lines), "    "), style="dim"))
        console.print()
    console.print("genai fit -c NAME trains one. minutes: on one or two cores, or on a GPU")
    console.print("score: of test samples; floor: real against real; -: not measured yet")
