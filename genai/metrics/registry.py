"""Metrics are declared here: `@metric` on the function that computes one is all that a new metric needs.

    @metric(title="Recall", better="higher", format=".3f", paper="arXiv:1904.06991")
    def recall(sets: Comparison) -> float: ...

The function's name is the metric's name in metrics.json, in the loggers (val/NAME) and for --best_metric. The table of
`genai test`, `genai runs`, the card of an exported run and the leaderboard print it with this title and format.
"""

import importlib
import math
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

import genai.metrics
from genai.metrics.protocol import Comparison

ARROWS = {"higher": "↑", "lower": "↓"}
METRICS_VERSION = 2  # raised when the values of any metric change, so that cached floors are computed again


class Estimate(NamedTuple):
    """A value with its standard deviation over subsets of the samples; None if every subset is the whole set."""

    value: float
    std: float | None


Compute = Callable[[Any], float | Estimate | None]  # of a Comparison, or of a TextComparison
Function = TypeVar("Function", bound=Compute)


@dataclass(frozen=True)
class Metric:
    """A declared metric; the arguments of `metric` say what its fields mean."""

    name: str
    compute: Compute
    title: str
    better: Literal["higher", "lower"]
    format: str
    paper: str
    scale: float
    order: int

    @property
    def heading(self) -> str:
        """The title with its unit and an arrow in the direction that is better: `KID x1000 ↓`."""
        unit = "" if self.scale == 1 else f" x{self.scale:g}"
        return f"{self.title}{unit} {ARROWS[self.better]}"

    def text(self, scores: Mapping[str, float | None], with_std: bool = False) -> str:
        """The printed value of the metric; empty if `scores` does not have it."""
        value, std = scores.get(self.name), scores.get(f"{self.name}_std")
        if value is None:
            return ""
        text = self._format(value)
        return f"{text} ± {self._format(std)}" if with_std and std is not None else text

    def _format(self, value: float) -> str:
        if not math.isfinite(value):
            return str(value)
        if self.format == "d":  # a count, or a mean of counts
            return format(int(value), "d") if value == int(value) else format(value, ".4g")
        return format(self.scale * value, self.format).rstrip(".")


_declared: dict[str, Metric] = {}
_of_text: dict[str, Metric] = {}


def metric(
    title: str, better: Literal["higher", "lower"], format: str, paper: str, scale: float = 1.0, order: int = 100
) -> Callable[[Function], Function]:
    """Declare the decorated function as a metric.

    The function receives a `Comparison` and returns a number, an `Estimate`, or None if the metric does not apply (no
    classes, no labels).

    Args:
        title: in tables.
        better: which direction is better.
        format: format specification of a value; `d` for counts.
        paper: arXiv id of its definition.
        scale: factor on printed values; files and loggers have the plain value.
        order: place in tables, ascending; then by name.
    """

    def declare(function: Function) -> Function:
        name = function.__name__
        _declared[name] = Metric(name, function, title, better, format, paper, scale, order)
        return function

    return declare


def text_metric(
    title: str, better: Literal["higher", "lower"], format: str, paper: str, order: int = 100
) -> Callable[[Function], Function]:
    """Declare the decorated function as a metric of text models, see `metric`; it receives a `TextComparison`."""

    def declare(function: Function) -> Function:
        name = function.__name__
        _of_text[name] = Metric(name, function, title, better, format, paper, 1.0, order)
        return function

    return declare


def all_metrics() -> list[Metric]:
    """Every metric of images that a module of genai.metrics declares, in the order of tables."""
    return in_order(_declared)


def text_metrics() -> list[Metric]:
    """Every metric of text models, in the order of tables."""
    return in_order(_of_text)


def in_order(declared: Mapping[str, Metric]) -> list[Metric]:
    """The metrics of a table after all modules of genai.metrics have been imported."""
    for module in pkgutil.iter_modules(genai.metrics.__path__):
        importlib.import_module(f"genai.metrics.{module.name}")
    return sorted(declared.values(), key=lambda metric: (metric.order, metric.name))


def compute_scores(sets: Comparison) -> dict[str, float]:
    """Every metric that applies, by name; NAME_std beside a metric that has a standard deviation."""
    scores: dict[str, float] = {}
    for declared in all_metrics():
        result = declared.compute(sets)
        if isinstance(result, Estimate):
            scores[declared.name] = result.value
            if result.std is not None:
                scores[f"{declared.name}_std"] = result.std
        elif result is not None:
            scores[declared.name] = result
    return scores
