"""Charts of a report, drawn by Bokeh: curves with floors, class shares, quality against time."""

from collections.abc import Sequence
from itertools import cycle
from typing import Any

from bokeh.models import ColumnDataSource, FactorRange, HoverTool
from bokeh.models.annotations import Span
from bokeh.models.renderers import DataRenderer
from bokeh.palettes import Colorblind8
from bokeh.plotting import figure
from bokeh.transform import dodge

from genai.metrics.registry import Metric
from genai.report.html.content import RunContent

MAX_POINTS = 300  # of a curve
LEGEND_LINE = 26  # pixels
FLOOR: dict[str, Any] = {"line_color": "#666666", "line_dash": "dashed", "line_width": 1.5}


def base(title: str, x: str, y: str, **options: Any) -> figure:
    """An empty chart that is as wide as its place."""
    chart = figure(
        title=title,
        x_axis_label=x,
        y_axis_label=y,
        height=280,
        sizing_mode="stretch_width",
        tools="pan,box_zoom,reset",
        **options,
    )
    chart.toolbar.logo = None
    chart.toolbar.autohide = True
    return chart


def colors(runs: Sequence[RunContent]) -> dict[str, str]:
    """A colour for each run, by name."""
    return dict(zip((run.name for run in runs), cycle(Colorblind8)))


def curve(column: str, runs: Sequence[RunContent], metric: Metric | None, unit: str) -> figure:
    """One column of metrics.csv of each run that has it, the floor as a dashed line.

    Args:
        column: its name.
        runs: what to report.
        metric: gives a title and a scale; None for a column that is no metric.
        unit: of the x-axis, `images` or `tokens`.
    """
    scale = metric.scale if metric else 1.0
    split = column.partition("/")[0]
    title = f"{metric.heading} ({split})" if metric else column
    chart = base(title, f"thousands of {unit} seen", "")
    lines: list[DataRenderer] = []
    for run, color in zip(runs, colors(runs).values(), strict=True):
        points = run.curves.get(column, ())
        if len(points) > MAX_POINTS:  # evenly spaced, the first and the last among them
            points = [points[round(i * (len(points) - 1) / (MAX_POINTS - 1))] for i in range(MAX_POINTS)]
        source = ColumnDataSource(
            {"x": [x / 1000 for x, _ in points], "y": [scale * y for _, y in points], "run": [run.name] * len(points)}
        )
        lines.append(chart.line("x", "y", source=source, line_width=2, color=color, legend_label=run.name))
        if len(points) < 30:
            chart.scatter("x", "y", source=source, size=5, color=color)
        for _, floor in run.curves.get(f"{column}_floor", ())[-1:]:
            chart.add_layout(Span(location=scale * floor, dimension="width", **FLOOR))
    tips = [("run", "@run"), (f"thousands of {unit}", "@x{0.0}"), ("value", "@y{0.0000}")]
    chart.add_tools(HoverTool(renderers=lines, tooltips=tips))
    chart.legend.visible = len(runs) > 1
    chart.legend.background_fill_alpha = 0.6
    return chart


def class_shares(runs: Sequence[RunContent]) -> figure | None:
    """Share of the samples in each class, a bar for each run, the real images' share as a line; None if no run has them."""
    shares = {run.name: run.evaluation["class_shares"] for run in runs if run.evaluation.get("class_shares")}
    if not shares:
        return None
    names = [str(name) for name in next(iter(shares.values()))["names"]]
    shares = {name: own for name, own in shares.items() if [str(label) for label in own["names"]] == names}
    chart = base("Class shares of the samples", "class", "share", x_range=FactorRange(factors=names))
    width = 0.8 / len(shares)
    palette = colors(runs)
    for i, (name, own) in enumerate(shares.items()):
        source = ColumnDataSource(
            {"class": names, "share": own["samples"], "real": own["reference"], "run": [name] * len(names)}
        )
        x = dodge("class", (i + 0.5) * width - 0.4, range=chart.x_range)
        bars = chart.vbar(x, top="share", width=0.9 * width, source=source, color=palette[name], legend_label=name)
        tips = [("run", "@run"), ("class", "@class"), ("samples", "@share{0.000}"), ("real", "@real{0.000}")]
        chart.add_tools(HoverTool(renderers=[bars], tooltips=tips))
    real = next(iter(shares.values()))["reference"]
    chart.scatter(names, real, marker="dash", size=24, line_width=3, color="black", legend_label="real images")
    chart.y_range.update(start=0)
    legend_below(chart, len(shares) + 1)
    return chart


def against(metric: Metric, runs: Sequence[RunContent], x: Sequence[float], label: str) -> figure:
    """The metric of each run against a time, a point for each run; the floor is a dashed line."""
    chart = base(f"{metric.heading} against {label}", label, metric.heading, x_axis_type="log")
    palette = colors(runs)
    source = ColumnDataSource(
        {
            "x": list(x),
            "y": [metric.scale * run.evaluation["scores"][metric.name] for run in runs],
            "run": [run.name for run in runs],
            "color": [palette[run.name] for run in runs],
        }
    )
    points = chart.scatter("x", "y", source=source, size=13, color="color", legend_group="run")
    floor = runs[0].evaluation["floor"].get(metric.name)
    if floor is not None:
        chart.add_layout(Span(location=metric.scale * floor, dimension="width", **FLOOR))
    chart.add_tools(
        HoverTool(renderers=[points], tooltips=[("run", "@run"), (label, "@x{0.0000}"), (metric.title, "@y{0.0000}")])
    )
    legend_below(chart, len(runs))
    return chart


def legend_below(chart: figure, num: int) -> None:
    """Put the legend of `num` lines below a chart, which becomes higher by it."""
    chart.add_layout(chart.legend[0], "below")
    chart.height = (chart.height or 0) + LEGEND_LINE * num
