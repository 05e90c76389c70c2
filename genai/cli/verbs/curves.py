"""genai curves: plot the logged metrics of runs over training

Group: inspect
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from genai.cli.options.arguments import VerbParser
from genai.cli.options.output import OutputOptions
from genai.cli.options.run import RUN_HELP
from genai.errors import UserError
from genai.escaping import in_chart
from genai.files import read_csv
from genai.images import save_png
from genai.runs import Run, find

COLUMNS = 3  # panels in a row
MAX_PANELS = 60
LARGEST = 1e100  # number that is drawn
AXES = ("images_seen", "tokens_seen")


def parser() -> VerbParser:
    """The options of `genai curves`."""
    verb = VerbParser(
        "curves",
        "RUN... [options]",
        "Plot columns of the metrics.csv of runs in one picture, a panel for each metric and a line for each run.",
    )
    verb.add_argument("runs", metavar="RUN", nargs="+", help=RUN_HELP)
    text = "columns of metrics.csv, such as val/reward val/recall (default: all that begin with val/)"
    verb.add_argument("--metrics", nargs="+", default=[], metavar="NAME", help=text)
    text = "the horizontal axis: a column, such as val/kl (default: images or tokens seen)"
    verb.add_argument("--against", metavar="NAME", help=text)
    OutputOptions.add_to(verb)
    return verb


def run(arguments: list[str]) -> None:
    """Write the picture."""
    options = parser().parse(arguments)
    runs = [find(name) for name in options.runs]
    path = OutputOptions.from_namespace(options).png(runs[0], "curves")
    tables = [read_metrics(run) for run in runs]
    known = dict.fromkeys(name for table in tables for name in table[0])
    axis = options.against or next((name for name in AXES if name in known), AXES[0])
    metrics = options.metrics or [name for name in known if name.startswith("val/") and not name.endswith("_floor")]
    for name in (axis, *metrics):
        if name not in known:
            raise UserError(f"no run has logged {name}: choose from {', '.join(known)}")
    if not 0 < len(metrics) <= MAX_PANELS:
        raise UserError(f"the runs have logged {len(metrics) or 'no'} val/ metrics: name up to {MAX_PANELS} with --metrics")
    save_png(panels(runs, tables, metrics, axis), path, {"Runs": ", ".join(run.name for run in runs), "Verb": "curves"})
    print(f"wrote {path}")


def read_metrics(run: Run) -> list[dict[str, str]]:
    """The rows of a run's metrics.csv; UserError where it has none."""
    path = run.path / "metrics.csv"
    rows = read_csv(path)[0] if path.is_file() else []
    if not rows:
        raise UserError(f"{run.path} has no metrics.csv with a row: name a run that was trained here, not an entry of the zoo")
    return rows


def curve_of(table: Sequence[dict[str, str]], x: str, y: str) -> np.ndarray:
    """The rows that have both columns, as numbers: (2, K); UserError where a cell is no number."""
    try:
        rows = [(float(row[x]), float(row[y])) for row in table if row.get(x) and row.get(y)]
    except ValueError as error:
        raise UserError(f"a metrics.csv has no numbers as {x} and {y} ({error}): choose other --metrics") from None
    values = np.array(rows).reshape(-1, 2).T
    return np.where(np.abs(values) < LARGEST, values, np.nan)  # matplotlib has no ticks for larger ones


def panels(runs: Sequence[Run], tables: Sequence[list[dict[str, str]]], metrics: Sequence[str], axis: str) -> Image.Image:
    """The picture; a dashed line is the floor of a metric, its score of real images."""
    experiments = [run.full_path.parent.name for run in runs]
    labels = [in_chart(name) for name in (experiments if len(set(experiments)) == len(runs) else [run.name for run in runs])]
    columns = min(len(metrics), COLUMNS)
    rows = -(-len(metrics) // columns)
    figure = Figure(figsize=(4 * columns, 0.4 + 2.8 * rows), dpi=120, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for number, name in enumerate(metrics, start=1):
        axes = figure.add_subplot(rows, columns, number, title=in_chart(name), xlabel=in_chart(axis.replace("_", " ")))
        for k, table in enumerate(tables):
            x, y = curve_of(table, axis, name)
            axes.plot(x, y, marker="." if len(x) < 30 else "", color=f"C{k % 10}")
        for table in tables:
            for floor in curve_of(table, axis, f"{name}_floor")[1][-1:]:
                axes.axhline(floor, color="gray", linestyle="dashed", linewidth=1)
        axes.grid(alpha=0.3)
    if len(runs) > 1:
        figure.legend(axes.get_lines()[: len(runs)], labels, loc="outside upper center", ncols=min(len(runs), 3))
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
