"""genai runs: the runs and the zoo, with their scores."""

import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from genai.cli.options.arguments import VerbParser
from genai.metrics.registry import Metric, all_metrics
from genai.metrics.tables import WrappedTable, plain
from genai.runs import REPOSITORY, Run, all_runs, is_run, runs_folder

CAPTION = "in brackets: the floor, real against real; *: with options of the model that differ from the run's config"


def parser() -> VerbParser:
    """The options of `genai runs`."""
    verb = VerbParser(prog="genai runs", description="List the runs and zoo entries with their newest scores.")
    verb.add_argument("folder", nargs="?", help="where the runs are (runs/, or $GENAI_RUNS), or an experiment there")
    return verb


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


def runs_of(folder: str) -> list[Run]:
    """The runs below a folder, or those of an experiment."""
    return list(all_runs(Path(folder))) or [run for run in all_runs() if run.path.parent.name == folder]


def make_table(runs: list[Run]) -> WrappedTable:
    """A row for each run; metrics that no run has are left out."""
    measured = {name for newest in map(newest_scores, runs) if newest for name in newest[1]["scores"]}
    metrics = [metric for metric in all_metrics() if metric.name in measured]
    columns = ["run", "split", "images seen", *(metric.heading for metric in metrics)]
    return WrappedTable(columns, [row(run, metrics) for run in runs], caption=CAPTION)


def run(arguments: list[str]) -> None:
    """Print the table: as wide as the terminal, and one line for each run in a pipe."""
    folder = parser().parse_args(arguments).folder
    found = runs_of(folder) if folder else list(all_runs())
    if folder is None:
        found += [Run(path) for path in sorted((REPOSITORY / "zoo").glob("*")) if is_run(path)]
    if not found:
        print(f"no runs in {folder or runs_folder()}: `genai fit -c configs/digits/gan.yaml` makes one in a few minutes")
        return
    table = make_table(found)
    if sys.stdout.isatty():
        Console().print(table)
    else:
        print(plain(table))
