"""genai runs: the runs and the zoo, with their scores."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from genai.cli.options.arguments import VerbParser
from genai.runs import REPOSITORY, Run, all_runs, is_run, runs_folder

CAPTION = "in brackets: real against real, the floor; *: with options of the model that the run's config lacks"
COLUMNS = {"fid": "FID", "is_mean": "IS", "kid": "KID x1000", "precision": "precision", "recall": "recall"}
SCALES = {"kid": 1000}


def parser() -> VerbParser:
    """The options of `genai runs`."""
    verb = VerbParser(prog="genai runs", description="List the runs and zoo entries with their newest scores.")
    verb.add_argument("folder", nargs="?", help="where the runs are (runs/, or $GENAI_RUNS), or an experiment there")
    return verb


def row(run: Run) -> list[str]:
    """The cells of one run: name, split, images seen, and each score above its floor."""
    scores = run.scores()
    split = next((split for split in ("test", "val") if split in scores), None)
    if split is None:
        return [run.name, "", "", *[""] * len(COLUMNS)]
    quality: dict[str, Any] = scores[split]
    cells = [cell(quality["scores"].get(key), quality["floor"].get(key), SCALES.get(key, 1)) for key in COLUMNS]
    mark = " *" if quality.get("overrides") else ""
    return [run.name, f"{split}{mark}", f"{quality['images_seen']:,}", *cells]


def runs_of(folder: str) -> list[Run]:
    """The runs below a folder, or those of an experiment."""
    return list(all_runs(Path(folder))) or [run for run in all_runs() if run.path.parent.name == folder]


def cell(value: float | None, floor: float | None, scale: float) -> str:
    """`4.21 (0.35)`: the score and, in brackets, its real-against-real floor."""
    return "" if value is None or floor is None else f"{scale * value:.3g} ({scale * floor:.3g})"


def run(arguments: list[str]) -> None:
    """Print the table."""
    folder = parser().parse_args(arguments).folder
    found = runs_of(folder) if folder else list(all_runs())
    if folder is None:
        found += [Run(path) for path in sorted((REPOSITORY / "zoo").glob("*")) if is_run(path)]
    if not found:
        print(f"no runs in {folder or runs_folder()}: `genai fit -c configs/digits/gan.yaml` makes one in a few minutes")
        return
    table = Table("run", "split", "images seen", *COLUMNS.values(), caption=CAPTION)
    for entry in found:
        table.add_row(*row(entry))
    console = Console()
    if not console.is_terminal:
        console.width = 160
    console.print(table)
