"""samples/collapse.png: the class shares of the samples over the images seen, with class KL and recall."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from genai.escaping import in_chart
from genai.training.callbacks.collapse_events import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def collapse_chart(rows: Sequence[Row], class_names: Sequence[str], real_shares: Sequence[float]) -> "Figure":
    """Draw the rows of collapse.csv: shares beside the real ones; below them class KL and recall with their floors."""
    from matplotlib.figure import Figure  # without pyplot: Agg, and no global state

    figure = Figure(figsize=(9, 8), dpi=110, layout="constrained")
    axes = figure.subplots(3, 2, sharex="col", width_ratios=[14, 1], height_ratios=[5, 2, 2])
    for empty in axes[1:, 1]:
        empty.set_visible(False)
    scale, unit = x_unit(rows[-1]["images_seen"])
    x = [row["images_seen"] / scale for row in rows]
    draw_shares(axes[0], x, rows, class_names, real_shares)
    draw_score(axes[1, 0], x, rows, "class_kl", "class KL, nats ↓")
    axes[1, 0].set_yscale("log")
    draw_score(axes[2, 0], x, rows, "recall", "recall ↑")
    axes[2, 0].set_ylim(-0.03, 1.03)
    for left in axes[:, 0]:
        left.margins(x=0.01)
    axes[1, 0].legend(loc="best", fontsize=8, framealpha=0.8)
    axes[2, 0].set_xlabel(f"images seen{unit}")
    return figure


def x_unit(images_seen: int) -> tuple[int, str]:
    """The unit of the x-axis and its name, for the largest number of images."""
    if images_seen >= 1_000_000:
        return 1_000_000, ", millions"
    return (1_000, ", thousands") if images_seen >= 10_000 else (1, "")


def draw_shares(
    axes: Sequence["Axes"], x: list[float], rows: Sequence[Row], names: Sequence[str], real: Sequence[float]
) -> None:
    """Stacked areas of the samples' shares on the left axes, a stacked bar of the real ones on the right axes."""
    from matplotlib import colormaps

    left, right = axes
    colours = colormaps["tab10" if len(names) <= 10 else "tab20"].colors  # type: ignore[attr-defined]
    shares = [[100 * row.get(f"share_{name}", 0.0) for row in rows] for name in names]
    if len(x) == 1:  # an area needs two points: a single measurement becomes a bar
        x, shares = [x[0] - 0.5, x[0] + 0.5], [values * 2 for values in shares]
    left.stackplot(x, shares, colors=colours, edgecolor="white", linewidth=0.4)
    left.set(ylim=(0, 100), ylabel="share of the samples, %", title="Classes of the samples")
    bottom = 0.0
    for name, share, colour in zip(names, real, colours, strict=False):
        right.bar(0, 100 * share, bottom=bottom, width=1, color=colour, edgecolor="white", linewidth=0.4)
        right.text(0.7, bottom + 50 * share, in_chart(name), va="center", fontsize=9)
        bottom += 100 * share
    right.set(ylim=(0, 100), xlim=(-0.5, 0.5), xticks=[], yticks=[], title="real")


def draw_score(axes: "Axes", x: list[float], rows: Sequence[Row], name: str, title: str) -> None:
    """A score, its floor dashed; collapsed measurements in red, those unlike the data in grey."""
    lowest = 1e-5 if name == "class_kl" else 0.0  # a logarithmic axis has no zero
    values = [max(row[name], lowest) for row in rows]
    axes.plot(x, values, color="black", marker=".", label="samples")
    axes.axhline(max(rows[-1][f"{name}_floor"], lowest), color="grey", linestyle="--", label="real images")
    for state, label, colour in (("collapsed", "collapsed", "tab:red"), ("low_precision", "unlike the data", "tab:gray")):
        found = [i for i, row in enumerate(rows) if row["state"] == state]
        if found:
            points = [x[i] for i in found], [values[i] for i in found]
            axes.plot(*points, color=colour, marker="o", linestyle="", label=label, zorder=3)
    axes.set_ylabel(title)
    axes.grid(alpha=0.3)
