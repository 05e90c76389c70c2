"""genai runs: list runs and zoo entries with their scores

Group: inspect
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from genai.cli.options.arguments import VerbParser, add_trust_option, command
from genai.errors import DamagedFileError, UserError
from genai.metrics.registry import Metric, all_metrics, text_metrics
from genai.metrics.tables import WrappedTable
from genai.report.comparison import COSTS, cost_of
from genai.runs import Run, all_runs, is_run, runs_folder
from genai.shipped import SHIPPED, ZOO

MARKS = {"*": "*: scored with model options that the run's config does not have", "(val)": "(val): on the validation split"}
FLOOR = "  floor"  # first cell of the row of floors
ABOUT = ("data", "features", "seed", "minutes")
COST = {"train_flops": "TFLOP", "peak_memory": "GB", "energy_kwh": "Wh", "sample_seconds": "ms/sample"}  # heading of each


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
    parts = [part for kind in (False, True) if (part := [run for run in found if run.is_text == kind])]
    for i, part in enumerate(parts):
        console.print(*[""] * bool(i), make_table(part, None if options.all_metrics else console.width), sep="\n")


def zoo_entries() -> list[Run]:
    """The zoo entries that ship with genai."""
    return [Run(path) for path in sorted(ZOO.glob("*")) if is_run(path)]


def runs_of(name: str) -> list[Run]:
    """The runs of an experiment or below a folder, or the one run of that name; UserError if there is none."""
    for path in (Path(name), runs_folder() / name, SHIPPED / name):
        if is_run(path):
            return [Run(path)]
    found = [run for run in all_runs() if run.path.parent.name == name] or list(all_runs(Path(name)))
    for folder in (Path(name), SHIPPED / name):  # of an experiment, or a zoo
        found = found or [Run(path) for path in sorted(folder.glob("*")) if is_run(path)]
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
    metrics = [metric for metric in (*all_metrics(), *text_metrics()) if metric.name in measured]
    first, others = metrics[:1], metrics[1:]  # the columns of every run stand behind the first score
    costs = {newest.run.path: readable_cost(newest.run) for newest in listed}
    cost_keys = [key for key in COST if any(key in cost for cost in costs.values())]
    headings = ["run", "kimg", *map(heading, first), *ABOUT, *map(heading, others), *(COST[key] for key in cost_keys)]
    rows = []
    for members, floors in grouped_by_floor(listed, metrics):
        for newest in members:
            cost = costs[newest.run.path]
            texts = [format(COSTS[key][1] * cost[key], COSTS[key][2]) if key in cost else "" for key in cost_keys]
            rows.append([*row_of(newest, first, others), *texts])
        if floors:
            cells = [*(floors.get(m.name, "") for m in first), *[""] * len(ABOUT), *(floors.get(m.name, "") for m in others)]
            rows.append([FLOOR, "", *cells, *[""] * len(cost_keys)])
    used = [i for i in range(len(headings)) if any(row[i] for row in rows)]
    headings, rows = [headings[i] for i in used], [[row[i] for i in used] for row in rows]
    notes = ["kimg: thousands of images seen", "floor: real against real"]
    if runs[0].is_text:
        notes = ["kimg: thousands of tokens seen", "floor: real text"]
    notes += ["minutes: of training"] * ("minutes" in headings)
    if width is None and cost_keys:
        notes.append("TFLOP, GB, Wh: of training; ms/sample: batch time per image")
    notes += [note for mark, note in MARKS.items() if any(mark in row[0] for row in rows)]
    shown = list(range(len(headings)))
    if width is not None and len(bands := WrappedTable(headings, rows).bands(width)) > 1:
        shown = bands[0]
        notes.append("--all-metrics: others")
    shown_rows = [[row[i] for i in shown] for row in rows]
    shown_rows = [row for row in shown_rows if row[0] != FLOOR or any(row[1:])]
    return WrappedTable([headings[i] for i in shown], shown_rows, caption="; ".join(notes))


def heading(metric: Metric) -> str:
    """The name of a metric, and the factor on its values."""
    return metric.name + ("" if metric.scale == 1 else f" x{metric.scale:g}")


def grouped_by_floor(listed: Sequence[Newest], metrics: Sequence[Metric]) -> list[tuple[list[Newest], dict[str, str]]]:
    """Neighbours whose floors agree in the metrics that they share, and their floors by metric; none without scores."""
    groups: list[tuple[list[Newest], dict[str, str]]] = []
    for newest in listed:
        scores = newest.evaluation["floor"] if newest.evaluation else {}
        floors = {metric.name: text for metric in metrics if (text := metric.text(scores))}
        members, known = groups[-1] if groups else ([], {})
        if members and bool(floors) == bool(known) and all(known.get(name, text) == text for name, text in floors.items()):
            members.append(newest)
            known.update(floors)
        else:
            groups.append(([newest], floors))
    return groups


def row_of(newest: Newest, first: Sequence[Metric], others: Sequence[Metric]) -> list[str]:
    """The cells of a run: its whole name, thousands of images seen, scores, and what `ABOUT` names."""
    run, split, evaluation = newest
    if evaluation is None:
        return [run.name, "", *[""] * len(first), *about(run, {}), *[""] * len(others)]
    name = run.name + (" (val)" if split == "val" else "") + (" *" if evaluation.get("overrides") else "")
    texts = ([metric.text(evaluation["scores"]) for metric in part] for part in (first, others))
    ahead, behind = texts
    return [name, f"{evaluation['images_seen'] / 1000:,.0f}", *ahead, *about(run, evaluation), *behind]


def readable_cost(run: Run) -> dict[str, Any]:
    """The cost of a run; empty where its files are damaged."""
    try:
        return cost_of(run)
    except UserError:
        return {}


def about(run: Run, evaluation: Mapping[str, Any]) -> list[str]:
    """The cells of ABOUT: empty where the run does not say it or its files are damaged."""
    try:
        record = run.raw_record()
    except UserError:
        return [""] * len(ABOUT)
    cost = readable_cost(run)
    minutes = f"{cost['seconds'] / 60:,.1f}" if "seconds" in cost else ""
    features = evaluation.get("protocol", {}).get("features", "")
    return [str(record.get("data", "")), Path(str(features)).stem, str(record.get("seed", "")), minutes]
