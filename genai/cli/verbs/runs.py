"""genai runs: list runs and zoo entries with their scores

Group: inspect
"""

import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from genai.cli.options.arguments import VerbParser, add_trust_option, command
from genai.errors import DamagedFileError, UserError
from genai.metrics.registry import Metric, all_metrics
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


class Newest(NamedTuple):
    """A run and its newest evaluation: on the test split if there is one, else on the validation split; or none."""

    run: Run
    split: str
    evaluation: dict[str, Any] | None


def readable_scores(run: Run) -> dict[str, Any]:
    """What metrics.json says, by split; a damaged one is named on stderr, and counts as none."""
    try:
        return run.scores()
    except DamagedFileError as error:
        print(f"genai: {error}; its run is shown without scores", file=sys.stderr)
        return {}


def newest_scores(run: Run) -> Newest:
    """The newest evaluation of a run."""
    scores = readable_scores(run)
    split = next((split for split in ("test", "val") if split in scores), "")
    return Newest(run, split, scores.get(split))


def make_table(runs: Sequence[Run], width: int | None) -> WrappedTable:
    """A row for each run, and below runs with the same floor a row with it.

    Args:
        runs: in the order of the table.
        width: columns of the terminal; metrics that do not fit are left out. None: all metrics that a run has.
    """
    listed = [newest_scores(run) for run in runs]
    measured = {name for newest in listed if newest.evaluation for name in newest.evaluation["scores"]}
    metrics = [metric for metric in all_metrics() if metric.name in measured]
    headings = ["run", "kimg", *(metric.name + ("" if metric.scale == 1 else f" x{metric.scale:g}") for metric in metrics)]
    rows = []
    for floor, group in groupby(listed, key=lambda newest: floor_cells(newest, metrics)):
        rows += [row for newest in group for row in rows_of(newest, metrics)]
        rows += [["  floor", "", *floor]] if any(floor) else []
    notes = ["kimg: thousands of images seen", "floor: real against real"]
    notes += [note for mark, note in MARKS.items() if any(mark in row[0] for row in rows)]
    shown = list(range(len(headings)))
    if width is not None and len(bands := WrappedTable(headings, rows).bands(width)) > 1:
        shown = bands[0]
        notes.append("--all-metrics: others")
    cells = [[row[i] for i in shown] for row in rows]
    return WrappedTable([headings[i] for i in shown], cells, caption="; ".join(notes))


def floor_cells(newest: Newest, metrics: Sequence[Metric]) -> list[str]:
    """The floor of each metric; empty without scores."""
    return [metric.text(newest.evaluation["floor"]) if newest.evaluation else "" for metric in metrics]


def rows_of(newest: Newest, metrics: Sequence[Metric]) -> list[list[str]]:
    """The cells of a run: name (on two lines if it is long), thousands of images seen, scores."""
    run, split, evaluation = newest
    experiment, _, time = run.name.rpartition("/")
    *above, name = [run.name] if len(run.name) <= NAME_WIDTH else [f"{experiment}/", f"  {time}"]
    rows = [[line, *[""] * (1 + len(metrics))] for line in above]
    if evaluation is None:
        return [*rows, [name, *[""] * (1 + len(metrics))]]
    name += (" (val)" if split == "val" else "") + (" *" if evaluation.get("overrides") else "")
    return [
        *rows,
        [name, f"{evaluation['images_seen'] / 1000:,.0f}", *(metric.text(evaluation["scores"]) for metric in metrics)],
    ]
