"""genai runs: list runs and zoo entries with their scores

Group: inspect
"""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console

from genai.cli.options.arguments import VerbParser, add_trust_option, command
from genai.errors import UserError
from genai.metrics.registry import Metric, all_metrics, text_metrics
from genai.metrics.tables import WrappedTable
from genai.runs import REPOSITORY, Run, all_runs, is_run, runs_folder

MARKS = {"*": "*: scored with model options that the run's config does not have", "(val)": "(val): on the validation split"}
NAME_WIDTH = 24  # longer names are printed on two lines


def parser() -> VerbParser:
    """The options of `genai runs`."""
    verb = VerbParser(
        "runs",
        "[EXPERIMENT...]",
        "List runs and zoo entries with their newest scores (of the test split, else of the validation split). The row "
        "`floor` below them has the scores of real images against real images.",
    )
    text = "experiments, runs or folders of runs; default: all in runs/ (or $GENAI_RUNS), and the zoo"
    verb.add_argument("names", metavar="EXPERIMENT", nargs="*", default=[], help=text)
    text = "print all metrics, in several tables if the terminal is too narrow"
    verb.add_argument("--all-metrics", action="store_true", help=text)
    add_trust_option(verb)
    return verb


def run(arguments: list[str]) -> None:
    """Print the table, as wide as the terminal; 80 columns in a pipe."""
    options = parser().parse(arguments)
    names = options.names
    found = [run for name in names for run in runs_of(name)] if names else [*all_runs(), *zoo_entries()]
    if not found:
        raise UserError(f"no runs in {runs_folder()}: `{command('fit', '-c', 'configs/digits/gan.yaml')}` trains one")
    console = Console(highlight=False)
    console.print(make_table(found, None if options.all_metrics else console.width))


def zoo_entries() -> list[Run]:
    """The zoo entries of this checkout."""
    return [Run(path) for path in sorted((REPOSITORY / "zoo").glob("*")) if is_run(path)]


def runs_of(name: str) -> list[Run]:
    """The runs of an experiment or below a folder, or the one run of that name; UserError if there is none."""
    for path in (Path(name), runs_folder() / name, REPOSITORY / name):
        if is_run(path):
            return [Run(path)]
    found = [run for run in all_runs() if run.path.parent.name == name]
    found = found or list(all_runs(Path(name))) or [run for run in zoo_entries() if Path(name).resolve() == run.path.parent]
    if not found:
        raise UserError(f"there are no runs in {name}: `genai runs` lists all")
    return found


def newest_scores(run: Run) -> tuple[str, dict[str, Any]] | None:
    """The split and the evaluation of a run: on the test split if there is one, else on the validation split."""
    scores = run.scores()
    split = next((split for split in ("test", "val") if split in scores), None)
    return None if split is None else (split, scores[split])


def make_table(runs: Sequence[Run], width: int | None) -> WrappedTable:
    """A row for each run, and below runs with the same floor a row with it.

    Args:
        runs: in the order of the table.
        width: columns of the terminal; metrics that do not fit are left out. None: all metrics that a run has.
    """
    measured = {name for newest in map(newest_scores, runs) if newest for name in newest[1]["scores"]}
    metrics = [metric for metric in (*all_metrics(), *text_metrics()) if metric.name in measured]
    headings = ["run", "kimg", *(metric.name + ("" if metric.scale == 1 else f" x{metric.scale:g}") for metric in metrics)]
    rows = []
    for floor, group in groupby(runs, key=lambda run: floor_cells(run, metrics)):
        rows += [row for run in group for row in rows_of(run, metrics)]
        rows += [["  floor", "", *floor]] if any(floor) else []
    notes = ["kimg: thousands of images seen (of text: tokens)", "floor: real against real"]
    notes += [note for mark, note in MARKS.items() if any(mark in row[0] for row in rows)]
    shown = list(range(len(headings)))
    if width is not None and len(bands := WrappedTable(headings, rows).bands(width)) > 1:
        shown = bands[0]
        notes.append("--all-metrics: others")
    cells = [[row[i] for i in shown] for row in rows]
    return WrappedTable([headings[i] for i in shown], cells, caption="; ".join(notes))


def floor_cells(run: Run, metrics: Sequence[Metric]) -> list[str]:
    """The floor of each metric; empty without scores."""
    newest = newest_scores(run)
    return [metric.text(newest[1]["floor"]) if newest else "" for metric in metrics]


def rows_of(run: Run, metrics: Sequence[Metric]) -> list[list[str]]:
    """The cells of a run: name (on two lines if it is long), thousands of images seen, scores."""
    experiment, _, time = run.name.rpartition("/")
    *above, name = [run.name] if len(run.name) <= NAME_WIDTH else [f"{experiment}/", f"  {time}"]
    rows = [[line, *[""] * (1 + len(metrics))] for line in above]
    newest = newest_scores(run)
    if newest is None:
        return [*rows, [name, *[""] * (1 + len(metrics))]]
    split, evaluation = newest
    name += (" (val)" if split == "val" else "") + (" *" if evaluation.get("overrides") else "")
    return [
        *rows,
        [name, f"{evaluation['images_seen'] / 1000:,.0f}", *(metric.text(evaluation["scores"]) for metric in metrics)],
    ]
