"""genai runs: list runs and zoo entries with their scores

Group: inspect
"""

import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from genai.cli.options.arguments import VerbParser, add_trust_option, command
from genai.errors import UserError
from genai.metrics.registry import Metric, all_metrics
from genai.metrics.tables import WrappedTable, plain
from genai.runs import REPOSITORY, Run, all_runs, is_run, runs_folder

CAPTION = "in brackets: the floor, real against real; *: with options of the model that differ from the run's config"


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
    """Print the table: as wide as the terminal, and one line for each run in a pipe."""
    names = parser().parse(arguments).names
    found = [run for name in names for run in runs_of(name)] if names else [*all_runs(), *zoo_entries()]
    if not found:
        raise UserError(f"no runs in {runs_folder()}: `{command('fit', '-c', 'configs/digits/gan.yaml')}` trains one")
    table = make_table(found)
    if sys.stdout.isatty():
        Console().print(table)
    else:
        print(plain(table))


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


def newest_scores(run: Run) -> tuple[str, dict[str, Any]] | None:
    """The split and the evaluation of a run: on the test split if there is one, else on the validation split."""
    scores = run.scores()
    split = next((split for split in ("test", "val") if split in scores), None)
    return None if split is None else (split, scores[split])


def row(run: Run, metrics: list[Metric]) -> list[str]:
    """The cells of one run: name, split, images seen, and each score with its floor in brackets."""
    newest = newest_scores(run)
    if newest is None:
        return [run.name, "", "", *[""] * len(metrics)]
    split, evaluation = newest
    cells = [
        f"{metric.text(evaluation['scores'])} ({metric.text(evaluation['floor'])})" if metric.text(evaluation["scores"]) else ""
        for metric in metrics
    ]
    mark = " *" if evaluation.get("overrides") else ""
    return [run.name, f"{split}{mark}", f"{evaluation['images_seen']:,}", *cells]


def make_table(runs: list[Run]) -> WrappedTable:
    """A row for each run; metrics that no run has are left out."""
    measured = {name for newest in map(newest_scores, runs) if newest for name in newest[1]["scores"]}
    metrics = [metric for metric in all_metrics() if metric.name in measured]
    columns = ["run", "split", "images seen", *(metric.heading for metric in metrics)]
    return WrappedTable(columns, [row(run, metrics) for run in runs], caption=CAPTION)
