"""Mode collapse, told while training: which classes a model over-draws or has lost, in words, a table and a chart.

Everything is read from what `SampleQuality` has just measured; nothing is drawn or computed on features here.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import lightning as L
import numpy as np
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from lightning.pytorch.loggers import WandbLogger
from scipy.stats import hypergeom

from genai.metrics.quality import MAX_SHARES, Quality
from genai.training.callbacks.quality import SampleQuality

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = dict[str, Any]  # of collapse.csv


class Thresholds(NamedTuple):
    """What counts as collapse; see `Collapse`."""

    over: float
    missing: float
    recall: float
    min_affected: float
    min_precision: float
    significance: float


class ClassShare(NamedTuple):
    """A class, its share of the samples and of the real images, both in [0, 1]."""

    name: str
    share: float
    real: float


@dataclass(frozen=True)
class Diagnosis:
    """What the class shares (or, without classes, the recall) of a set of samples say.

    Attributes:
        over: over-drawn classes, the largest excess first.
        missing: classes that have vanished.
        has_classes: whether the feature network tells classes at all.
        is_uneven: whether these classes weigh enough for a collapse; without classes, whether recall is too low.
        is_like_data: whether precision is high enough for the classes of the samples to mean anything.
    """

    over: tuple[ClassShare, ...]
    missing: tuple[ClassShare, ...]
    has_classes: bool
    is_uneven: bool
    is_like_data: bool
    precision: float
    precision_floor: float
    recall: float
    recall_floor: float

    @property
    def state(self) -> str:
        """`fine`, `collapsed`, or `unlike`: not enough like the data to tell."""
        if not self.is_like_data:
            return "unlike"
        return "collapsed" if self.is_uneven else "fine"

    def describe(self) -> str:
        """One line for a reader."""
        parts = [] if self.is_like_data else [f"precision {self.precision:.2f} of {self.precision_floor:.2f}"]
        for name, share, real in self.over[:3]:
            parts.append(f"class {name} makes up {100 * share:.1f} % of the samples, {100 * real:.1f} % of the real images")
        if len(self.over) > 3:
            parts.append(f"{len(self.over) - 3} more classes over-drawn")
        if self.missing:
            names = [name for name, _, _ in self.missing]
            parts.append(f"missing: {', '.join(names) if len(names) <= MAX_SHARES else f'{len(names)} classes'}")
        elif self.has_classes and not self.over:
            parts.append("no class over-drawn or missing")
        return "; ".join([*parts, f"recall {self.recall:.2f} of {self.recall_floor:.2f}"])


def diagnose(quality: Quality, thresholds: Thresholds) -> Diagnosis:
    """Look for collapse in what was measured; `Collapse` says what the thresholds mean."""
    scores, floor = quality.scores, quality.floor
    over: list[ClassShare] = []
    missing: list[ClassShare] = []
    if scores.class_shares is None or quality.real_shares is None:
        is_uneven = scores.recall < thresholds.recall * floor.recall
    else:
        over, missing = _affected(quality, scores.class_shares, quality.real_shares, thresholds)
        drawn_too_often, lost = sum(c.share - c.real for c in over), sum(c.real for c in missing)
        is_uneven = max(drawn_too_often, lost) >= thresholds.min_affected
    return Diagnosis(
        over=tuple(sorted(over, key=lambda c: c.real - c.share)),
        missing=tuple(missing),
        has_classes=scores.class_shares is not None,
        is_uneven=is_uneven,
        is_like_data=scores.precision >= thresholds.min_precision * floor.precision,
        precision=scores.precision,
        precision_floor=floor.precision,
        recall=scores.recall,
        recall_floor=floor.recall,
    )


def _affected(
    quality: Quality, shares: Sequence[float], real_shares: Sequence[float], thresholds: Thresholds
) -> tuple[list[ClassShare], list[ClassShare]]:
    """The over-drawn classes and the missing ones."""
    level = thresholds.significance / len(shares)  # Bonferroni: one class among all may stand out by chance
    chances = _chances(shares, real_shares, quality.protocol.num_samples, quality.protocol.num_reference)
    over, missing = [], []
    for found, (more, fewer) in zip(map(ClassShare, quality.class_names, shares, real_shares), chances, strict=True):
        if found.share >= thresholds.over * found.real and more < level:
            over.append(found)
        elif found.share <= thresholds.missing * found.real and fewer < level:
            missing.append(found)
    return over, missing


def _chances(
    shares: Sequence[float], real_shares: Sequence[float], num_samples: int, num_reference: int
) -> list[tuple[float, float]]:
    """Of each class: the probabilities of at least, and of at most, as many samples, had they the share of the real images.

    Fisher's exact test, one-sided each way: given the images of the class in both sets, those among the samples are
    hypergeometric. It allows for the noise of the samples and of the reference.
    """
    drawn = np.rint(np.array(shares) * num_samples)
    real = np.rint(np.array(real_shares) * num_reference)
    law = hypergeom(num_samples + num_reference, drawn + real, num_samples)
    return list(zip(law.sf(drawn - 1).tolist(), law.cdf(drawn).tolist(), strict=True))


# ---------------------------------------------------------------------------------------------------------------------
# In words and as a table


LINES = {
    "collapse": "collapse at",
    "worse": "the collapse is worse at",
    "recovered": "recovered at",
    "not yet": "the samples are not yet like the data at",
    "no longer": "the samples are no longer like the data at",
}


def news(earlier: Sequence[Row], diagnosis: Diagnosis) -> str:
    """Which of LINES is to be told after the `earlier` rows; empty where it was told before or nothing is amiss.

    A collapse lasts until samples that are like the data show none: it is not told again in between.
    """
    told = [row["told"] for row in earlier if row["told"]]
    last = told[-1] if told else ""
    if diagnosis.state == "fine":
        return "recovered" if last in ("collapse", "worse", "no longer") else ""
    if diagnosis.state == "collapsed":
        if last not in ("collapse", "worse"):
            return "collapse"
        return "worse" if _is_worse(earlier, diagnosis) else ""
    if not diagnosis.is_uneven:
        return ""
    if all(row["state"] == "unlike" for row in earlier):
        return "" if told else "not yet"
    return "" if last in ("collapse", "worse", "no longer") else "no longer"


def _is_worse(earlier: Sequence[Row], diagnosis: Diagnosis) -> bool:
    """Whether more classes are affected than was told of this collapse, or, without classes, recall has halved since."""
    start = max(i for i, row in enumerate(earlier) if row["told"] == "collapse")
    told = [row for row in earlier[start:] if row["told"]]
    affected = len(diagnosis.over) + len(diagnosis.missing)
    if affected == 0:
        return diagnosis.recall < min(row["recall"] for row in told) / 2
    return affected > max(row["num_over"] + row["num_missing"] for row in told)


def make_row(epoch: int, images_seen: int, quality: Quality, diagnosis: Diagnosis) -> Row:
    """A row of collapse.csv; what was not measured is left out. Shares are listed for at most MAX_SHARES classes."""
    row: Row = {"epoch": epoch, "images_seen": images_seen, "state": diagnosis.state, "told": ""}
    row |= {"num_over": len(diagnosis.over), "num_missing": len(diagnosis.missing)}
    metrics = quality.metrics()
    names = [f"{name}{floor}" for name in ("class_kl", "num_modes", "precision", "recall") for floor in ("", "_floor")]
    row |= {name: metrics[name] for name in names if name in metrics}
    return row | {name: value for name, value in metrics.items() if name.startswith("share_")}


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write collapse.csv, whole or not at all."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(path)


def read_rows(path: Path) -> list[Row]:
    """What `write_rows` wrote; no rows where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: _value(name, text) for name, text in row.items() if text or name == "told"} for row in rows]


def _value(name: str, text: str) -> Any:
    if name in ("state", "told"):
        return text
    return int(text) if name in ("epoch", "images_seen", "num_over", "num_missing") else float(text)


# ---------------------------------------------------------------------------------------------------------------------
# As a chart


def chart(rows: Sequence[Row], class_names: Sequence[str], real_shares: Sequence[float]) -> "Figure":
    """Shares of the classes over images seen, beside the real ones; below them class KL and recall with their floors."""
    from matplotlib.figure import Figure  # a figure without pyplot draws with Agg and touches no global state

    figure = Figure(figsize=(9, 8), dpi=110, layout="constrained")
    axes = figure.subplots(3, 2, sharex="col", width_ratios=[14, 1], height_ratios=[5, 2, 2])
    for empty in axes[1:, 1]:
        empty.set_visible(False)
    scale, unit = _unit(rows[-1]["images_seen"])
    x = [row["images_seen"] / scale for row in rows]
    _draw_shares(axes[0], x, rows, class_names, real_shares)
    _draw_score(axes[1, 0], x, rows, "class_kl", "class KL, nats ↓")
    axes[1, 0].set_yscale("log")
    _draw_score(axes[2, 0], x, rows, "recall", "recall ↑")
    axes[2, 0].set_ylim(-0.03, 1.03)
    for left in axes[:, 0]:
        left.margins(x=0.01)
    axes[1, 0].legend(loc="best", fontsize=8, framealpha=0.8)
    axes[2, 0].set_xlabel(f"images seen{unit}")
    return figure


def _unit(images_seen: int) -> tuple[int, str]:
    if images_seen >= 1_000_000:
        return 1_000_000, ", millions"
    return (1_000, ", thousands") if images_seen >= 10_000 else (1, "")


def _draw_shares(
    axes: Sequence["Axes"], x: list[float], rows: Sequence[Row], names: Sequence[str], real: Sequence[float]
) -> None:
    from matplotlib import colormaps

    left, right = axes
    colours = colormaps["tab10" if len(names) <= 10 else "tab20"].colors  # type: ignore[attr-defined]
    shares = [[100 * row.get(f"share_{name}", 0.0) for row in rows] for name in names]
    if len(x) == 1:  # an area needs two points: a single measurement is drawn as a bar
        x, shares = [x[0] - 0.5, x[0] + 0.5], [values * 2 for values in shares]
    left.stackplot(x, shares, colors=colours, edgecolor="white", linewidth=0.4)
    left.set(ylim=(0, 100), ylabel="share of the samples, %", title="Classes of the samples")
    bottom = 0.0
    for name, share, colour in zip(names, real, colours, strict=False):
        right.bar(0, 100 * share, bottom=bottom, width=1, color=colour, edgecolor="white", linewidth=0.4)
        right.text(0.7, bottom + 50 * share, name, va="center", fontsize=9)
        bottom += 100 * share
    right.set(ylim=(0, 100), xlim=(-0.5, 0.5), xticks=[], yticks=[], title="real")


def _draw_score(axes: "Axes", x: list[float], rows: Sequence[Row], name: str, title: str) -> None:
    """One score, its floor dashed, collapsed measurements in red, those unlike the data in grey."""
    lowest = 1e-5 if name == "class_kl" else 0.0  # a logarithm's axis has no zero
    values = [max(row[name], lowest) for row in rows]
    axes.plot(x, values, color="black", marker=".", label="samples")
    axes.axhline(max(rows[-1][f"{name}_floor"], lowest), color="grey", linestyle="--", label="real images")
    for state, label, colour in (("collapsed", "collapsed", "tab:red"), ("unlike", "unlike the data", "tab:gray")):
        found = [i for i, row in enumerate(rows) if row["state"] == state]
        if found:
            points = [x[i] for i in found], [values[i] for i in found]
            axes.plot(*points, color=colour, marker="o", linestyle="", label=label, zorder=3)
    axes.set_ylabel(title)
    axes.grid(alpha=0.3)


# ---------------------------------------------------------------------------------------------------------------------


class Collapse(L.Callback):
    """Tells when the samples collapse onto some of the classes, get worse and recover, after each scored epoch of a fit.

    It reads what `SampleQuality` measured and measures nothing itself, so it is idle where that scores nothing. It logs
    `val/collapsed` (0 or 1) and, where `run_dir` is set, writes RUN/samples/collapse.csv, one row per scored epoch, and,
    for at most 20 classes, RUN/samples/collapse.png. A resumed run keeps the rows up to its checkpoint.

    A class is over-drawn or missing if its share is off by the factors below and by more than chance: in Fisher's exact
    test against the real images, with Bonferroni's correction for the number of classes. Samples are collapsed if such
    classes make up `min_affected` of them, and if they are like the data: classes of noise mean nothing.

    Args:
        over: a class is over-drawn from this multiple of its real share on.
        missing: a class has vanished up to this multiple of its real share.
        recall: where the feature network knows no classes: collapsed below this multiple of the floor's recall.
        min_affected: the smallest excess of the over-drawn classes, or real share of the missing ones, that is a collapse.
        min_precision: samples are like the data from this multiple of the floor's precision on.
        significance: chance, at most, that a class of an even model is called over-drawn (or missing) at one epoch.
    """

    def __init__(
        self,
        over: float = 2.0,
        missing: float = 0.1,
        recall: float = 0.25,
        min_affected: float = 0.05,
        min_precision: float = 0.3,
        significance: float = 0.001,
    ) -> None:
        self.thresholds = Thresholds(over, missing, recall, min_affected, min_precision, significance)
        self.run_dir: Path | None = None
        self.rows: list[Row] = []
        self._seen: Quality | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take up the rows of the run that is resumed, up to the checkpoint."""
        self._seen = _measured(trainer)
        self.rows = []
        path = self._path("csv")
        if path is None or not trainer.is_global_zero or not path.is_file():
            return
        self.rows = _before(read_rows(path), int(getattr(pl_module, "images_seen", 0)) + 1)
        write_rows(path, self.rows)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """All callbacks are through with `on_validation_epoch_end` by now, `SampleQuality` among them, in any order."""
        quality = _measured(trainer)
        if quality is None or quality is self._seen or trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        self._seen = quality
        if not trainer.is_global_zero:
            return
        images_seen = int(pl_module.images_seen)  # type: ignore[arg-type]
        self._record(trainer.current_epoch + 1, images_seen, quality)
        collapsed = {"val/collapsed": float(self.rows[-1]["state"] == "collapsed")}
        for logger in trainer.loggers:
            logger.log_metrics(collapsed, step=images_seen)
        self._draw(trainer, images_seen, quality)

    def _record(self, epoch: int, images_seen: int, quality: Quality) -> None:
        """Add a row and tell what is new."""
        diagnosis = diagnose(quality, self.thresholds)
        row = make_row(epoch, images_seen, quality, diagnosis)
        self.rows = _before(self.rows, images_seen)
        row["told"] = news(self.rows, diagnosis)
        self.rows.append(row)
        if row["told"]:
            line = f"{LINES[row['told']]} epoch {epoch} ({images_seen:,} images): {diagnosis.describe()}"
            Tqdm.write(line)  # above the progress bar, where there is one
        if path := self._path("csv"):
            write_rows(path, self.rows)

    def _draw(self, trainer: L.Trainer, images_seen: int, quality: Quality) -> None:
        path = self._path("png")
        if path is None or quality.real_shares is None or len(quality.class_names) > MAX_SHARES:
            return
        temporary = path.with_name(path.name + ".tmp")
        chart(self.rows, quality.class_names, quality.real_shares).savefig(temporary, format="png")
        temporary.replace(path)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("collapse", [str(path)], step=images_seen)

    def _path(self, suffix: str) -> Path | None:
        return None if self.run_dir is None else self.run_dir / "samples" / f"collapse.{suffix}"


def _before(rows: Sequence[Row], images_seen: int) -> list[Row]:
    return [row for row in rows if row["images_seen"] < images_seen]


def _measured(trainer: L.Trainer) -> Quality | None:
    """What `SampleQuality` measured last."""
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return next((callback.last for callback in callbacks if isinstance(callback, SampleQuality)), None)
