"""genai runs: list runs and zoo entries with their scores

Group: inspect
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from genai.cli.options.arguments import VerbParser, add_trust_option, command
from genai.errors import UserError
from genai.runs import REPOSITORY, Run, all_runs, is_run, runs_folder

COLUMNS = {"fid": "FID", "kid": "KID x1000", "is_mean": "IS", "precision": "prec.", "recall": "recall"}
SCALES = {"kid": 1000}
NAME_WIDTH = 24


def parser() -> VerbParser:
    """The options of `genai runs`."""
    verb = VerbParser(
        "runs",
        "[EXPERIMENT...]",
        "List runs and zoo entries with their newest scores (those of the test split, else of the validation split) and, below "
        "each, the floor: the score of real images against real images.",
    )
    text = "experiments, runs or folders of runs; default: all in runs/ (or $GENAI_RUNS), and the zoo"
    verb.add_argument("names", metavar="EXPERIMENT", nargs="*", default=[], help=text)
    add_trust_option(verb)
    return verb


def run(arguments: list[str]) -> None:
    """Print the table."""
    names = parser().parse(arguments).names
    found = [run for name in names for run in runs_of(name)] if names else [*all_runs(), *zoo_entries()]
    if not found:
        raise UserError(f"no runs in {runs_folder()}: `{command('fit', '-c', 'configs/digits/gan.yaml')}` trains one")
    Console().print(table(found))


def zoo_entries() -> list[Run]:
    """The zoo entries of this checkout."""
    return [Run(path) for path in sorted((REPOSITORY / "zoo").glob("*")) if is_run(path)]


def runs_of(name: str) -> list[Run]:
    """The runs of an experiment or below a folder, or the one run of that name; UserError where there is none."""
    for path in (Path(name), runs_folder() / name, REPOSITORY / name):
        if is_run(path):
            return [Run(path)]
    found = [run for run in all_runs() if run.path.parent.name == name]
    found = found or list(all_runs(Path(name))) or [run for run in zoo_entries() if Path(name).resolve() == run.path.parent]
    if not found:
        raise UserError(f"there are no runs in {name}: `genai runs` lists all")
    return found


def table(found: Sequence[Run]) -> Table:
    """Two lines for each run, its scores and below them its floor; at most 80 columns."""
    result = Table(box=None, padding=(0, 1, 0, 0), caption_justify="left")
    result.add_column("run", overflow="fold")
    result.add_column("split")
    for title in ("images", *COLUMNS.values()):
        result.add_column(title, justify="right", no_wrap=True)
    has_overrides = False
    for entry in found:
        scores = entry.scores()
        split = next((split for split in ("test", "val") if split in scores), None)
        first, second = name_lines(entry)
        if split is None:
            result.add_row(first, "-")
            result.add_row(second)
            continue
        evaluation: dict[str, Any] = scores[split]
        mark = " *" if evaluation.get("overrides") else ""
        has_overrides |= bool(mark)
        result.add_row(first, f"{split}{mark}", f"{evaluation['images_seen']:,}", *cells(evaluation["scores"]))
        result.add_row(second, "floor", "", *cells(evaluation["floor"]), style="dim")
    caption = "floor: real against real"
    result.caption = Text(f"{caption}; *: scored with model options that the run's config lacks" if has_overrides else caption)
    return result


def name_lines(run: Run) -> tuple[str, str]:
    """The run's name on the first of two lines, or on both where it is long: `experiment/`, `  time`."""
    if len(run.name) <= NAME_WIDTH:
        return run.name, ""
    experiment, _, time = run.name.rpartition("/")
    return f"{experiment}/", f"  {time}"


def cells(scores: dict[str, Any]) -> list[str]:
    """The scores of each column."""
    return ["" if scores.get(key) is None else f"{SCALES.get(key, 1) * scores[key]:.3g}" for key in COLUMNS]
