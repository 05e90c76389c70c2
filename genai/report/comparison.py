"""Runs and groups of seeds in one table: mean and spread over seeds, a test of the difference, cost beside quality."""

import csv
import io
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from statistics import fmean
from typing import Any

from scipy.stats import ttest_ind

from genai.errors import DamagedFileError, UserError
from genai.escaping import literal
from genai.files import plain_cell
from genai.metrics.protocol import Protocol
from genai.metrics.registry import Metric, all_metrics, text_metrics
from genai.metrics.tables import WrappedTable
from genai.metrics.text import TextProtocol
from genai.runs import Run, all_runs, find
from genai.terminal import visible

SEEDS = "@seeds"
TRAINED = (  # how settings begin that the weights depend on, besides the seed
    "model.",
    "data.",
    "init_from",
    *(f"trainer.{name}" for name in ("max_", "limit_train", "overfit", "precision", "accumulate", "gradient_clip")),
)
NOT_TRAINED = (".root", ".num_workers", "data.init_args.seed")
COSTS = {  # of `cost_of`: title, scale, format
    "seconds": ("training, min", 1 / 60, ".1f"),
    "train_flops": ("training, TFLOP", 1e-12, ".3g"),
    "energy_kwh": ("training, Wh", 1000, ".3g"),
    "peak_memory": ("peak memory, GB", 1e-9, ".2f"),
    "sample_flops": ("one sample, GFLOP", 1e-9, ".3g"),
    "sample_seconds": ("one sample, ms", 1000, ".3g"),
}
STEP = "{} step, GFLOP"  # a row for each network
ENERGY = "energy"  # the row that says where the energy comes from


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone, or one run."""

    name: str
    runs: tuple[Run, ...]

    def tests(self) -> list[dict[str, Any]]:
        """The evaluation of each run on the test split; runs without one are left out."""
        return [scores["test"] for run in self.runs if "test" in (scores := run.scores())]

    def values(self, metric: str) -> list[float]:
        """The score of each run."""
        found = [test["scores"].get(metric) for test in self.tests()]
        return [score for score in found if score is not None]


def short_name(run: Run) -> str:
    """The experiment of a run, or the name of a zoo entry."""
    return run.name if run.is_exported else run.full_path.parent.name


def distinct_names(runs: Sequence[Run]) -> list[str]:
    """A different name for each run: its experiment or zoo entry if that is enough, else also its folder, or its path.

    Raises:
        UserError: a run is named twice.
    """
    if len({run.path.resolve() for run in runs}) < len(runs):
        raise UserError("a run is named twice: name each run once")
    names = [short_name(run) for run in runs]
    for longer in (lambda run: run.name, lambda run: visible(str(run.path))):
        names = [name if names.count(name) == 1 else longer(run) for name, run in zip(names, runs, strict=True)]
    return names


def find_group(word: str) -> Group:
    """The group `EXPERIMENT@seeds`, the newest scored run for each seed of an experiment; or the one run `word`.

    Raises:
        UserError: there is no such run, or fewer than two seeds of the experiment have test scores.
    """
    if not word.endswith(SEEDS):
        run = find(word)
        return Group(short_name(run), (run,))
    experiment = word.removesuffix(SEEDS)
    runs = [run for run in all_runs() if run.path.parent.name == experiment and is_scored(run)]
    by_seed = {run.record()["seed"]: run for run in runs}  # the newest of each seed comes last
    if len(by_seed) < 2:
        raise UserError(
            f"{experiment} has test scores of {len(by_seed)} seeds, a spread needs 2: train others with `genai fit -c PRESET"
            f" --seed_everything 1 --experiment {experiment}` and score each with `genai test`"
        )
    return Group(word, tuple(by_seed[seed] for seed in sorted(by_seed)))


def is_scored(run: Run) -> bool:
    """Whether a run has test scores; one with a damaged file has none, and is named on stderr."""
    try:
        return "seed" in run.record() and "test" in run.scores()
    except UserError as error:
        print(f"genai: {error}; it is left out", file=sys.stderr)
        return False


def find_groups(words: Sequence[str]) -> list[Group]:
    """`find_group` of each different word; single runs have the names of `distinct_names`.

    Raises:
        UserError: see `find_group`; or a run is named twice.
    """
    groups = [find_group(word) for word in dict.fromkeys(words)]
    single = [group.runs[0] for group in groups if len(group.runs) == 1]
    names = dict(zip(single, distinct_names(single), strict=True))
    return [replace(group, name=names[group.runs[0]]) if len(group.runs) == 1 else group for group in groups]


def flatten(value: Any, prefix: str = "") -> dict[str, str]:
    """Nested mappings as `a.b.c` -> value as text."""
    if not isinstance(value, Mapping):
        return {prefix: str(value)}
    parts = [flatten(own, f"{prefix}.{key}" if prefix else str(key)) for key, own in value.items()]
    return {key: text for part in parts for key, text in part.items()}


def note_other_settings(group: Group) -> None:
    """Print a line on stderr where runs of a group differ in more than their seed: its spread is not one over seeds.

    Settings that one of the runs lacks are left out: another version of genai wrote it.
    """
    configs = [flatten(run.config()) for run in group.runs]
    trained = [key for key in configs[0] if key.startswith(TRAINED) and not key.endswith(NOT_TRAINED)]
    shared = [key for key in trained if all(key in config for config in configs)]
    values = {key: dict.fromkeys(config[key] for config in configs) for key in shared}
    differing = [f"{key} {' and '.join(own)}" for key, own in values.items() if len(own) > 1]
    if differing:
        more = f" and {len(differing) - 3} more" if differing[3:] else ""
        print(
            f"genai: the runs of {group.name} differ in more than the seed ({visible(', '.join(differing[:3]))}{more}): give "
            "each setting an --experiment of its own",
            file=sys.stderr,
        )


def note_other_checkpoint(run: Run, test: Mapping[str, Any], images_seen: int) -> None:
    """Print a line on stderr where scores are not those of the weights that generate the samples beside them."""
    if test and test["images_seen"] != images_seen:
        print(
            f"genai: the scores of {run.path} are those of a checkpoint after {test['images_seen']:,} "
            f"{'tokens' if run.is_text else 'images'}, its samples come from one after {images_seen:,}: "
            "`genai test` with the same --checkpoint measures it",
            file=sys.stderr,
        )


def protocol_of(test: Mapping[str, Any]) -> Protocol | TextProtocol:
    """What the scores of an evaluation depend on; DamagedFileError where it does not say so."""
    values = test.get("protocol", {})
    try:
        return TextProtocol(**values) if "tokenizer" in values else Protocol(**values)
    except TypeError as error:
        raise DamagedFileError(f"metrics.json is damaged (its protocol is none: {error})") from None


def protocol_key(test: Mapping[str, Any]) -> tuple[str, str]:
    """The protocol of an evaluation in one line, and the content of its data: datasets of the user's own share their names."""
    protocol = protocol_of(test)
    return protocol.describe(), protocol.fingerprint


def check_protocols(groups: Sequence[Group]) -> None:
    """Raise UserError where the scores have different protocols (the seed of the samples may differ)."""
    known: dict[Protocol | TextProtocol, str] = {}
    for group in groups:
        for test in group.tests():
            known.setdefault(replace(protocol_of(test), seed=0), group.name)
    if len(known) > 1:
        (first, name), (second, other) = list(known.items())[:2]
        differing = [f.name for f in fields(first) if getattr(first, f.name) != getattr(second, f.name, None)]
        details = ", ".join(f"{key} {getattr(first, key)} and {getattr(second, key)}" for key in differing)
        raise UserError(
            f"the scores of {name} and {other} have different protocols ({details[:200]}): score both again with the same"
            " options of `genai test`"
        )


def rows_of(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """A row for each metric, and in it by group the number of runs, mean, std over seeds, p against the first group, and floor.

    The floor of text is measured with the model, so that groups differ in it.
    """
    rows = []
    for metric in (*all_metrics(), *text_metrics()):
        values = {group.name: group.values(metric.name) for group in groups}
        if not any(values.values()):
            continue
        floors = {group.name: [test["floor"].get(metric.name) for test in group.tests()] for group in groups}
        first = values[groups[0].name]
        cells = {
            name: {
                "runs": len(found),
                "mean": fmean(found) if found else None,
                "std": stdev(found) if len(found) > 1 else None,
                "p": welch(first, found) if name != groups[0].name else None,
                "floor": next((floor for floor in floors[name] if floor is not None), None),
            }
            for name, found in values.items()
        }
        rows.append({"metric": metric.name, "groups": cells})
    return rows


def stdev(values: Sequence[float]) -> float:
    """The standard deviation of a sample of two values or more; NaN where one of them is infinite or NaN."""
    return statistics.stdev(values) if all(map(math.isfinite, values)) else math.nan


def welch(first: Sequence[float], second: Sequence[float]) -> float | None:
    """The p-value of Welch's t-test: the chance of such a difference between equal models; None below two runs each."""
    if min(len(first), len(second)) < 2 or not (stdev(first) or stdev(second)):
        return None
    return float(ttest_ind(first, second, equal_var=False).pvalue)


def cost_of(run: Run) -> dict[str, Any]:
    """What a run's metrics.json says about its cost: see `Cost`, `Energy` and `EvaluateSamples`; empty if it says nothing."""
    scores = run.scores()
    sampling = scores.get("sampling", {})
    return scores.get("cost", {}) | ({"sample_seconds": sampling["seconds"]} if "seconds" in sampling else {})


def cost_texts(cost: Mapping[str, Any]) -> dict[str, str]:
    """A cost as text by title; operations of a step for each network."""
    texts = {title: format(scale * cost[key], form) for key, (title, scale, form) in COSTS.items() if key in cost}
    texts |= {STEP.format(name): f"{1e-9 * flops:.3g}" for name, flops in cost.get("step_flops", {}).items()}
    return texts | ({ENERGY: cost["energy_source"]} if "energy_source" in cost else {})


def mean_cost(costs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean of several costs: of each value over those that have it; the energy's sources are joined."""
    mean: dict[str, Any] = {}
    for key in COSTS:
        if values := [cost[key] for cost in costs if key in cost]:
            mean[key] = fmean(values)
    steps = [cost.get("step_flops", {}) for cost in costs]
    mean["step_flops"] = {name: fmean(s[name] for s in steps if name in s) for own in steps for name in own}
    sources = dict.fromkeys(cost["energy_source"] for cost in costs if "energy_source" in cost)
    return mean | ({"energy_source": " or ".join(sources)} if sources else {})


def costs_of(groups: Sequence[Group]) -> dict[str, list[str]]:
    """Parameters, images seen and what was measured of the cost, by title: a cell for each group, the mean over its runs."""
    found: dict[str, list[str]] = {}
    tests = [group.tests() for group in groups]
    found["parameters"] = [f"{sum(test[0].get('parameters', {}).values()):,}" if test else "" for test in tests]
    is_text = any("tokenizer" in one.get("protocol", {}) for test in tests for one in test)
    found["tokens seen" if is_text else "images seen"] = [
        f"{fmean(t['images_seen'] for t in test):,.0f}" if test else "" for test in tests
    ]
    texts = [cost_texts(mean_cost([cost_of(run) for run in group.runs])) for group in groups]
    for title in dict.fromkeys(title for own in texts for title in own):
        found[title] = [own.get(title, "") for own in texts]
    return found


def score_table(groups: Sequence[Group]) -> WrappedTable:
    """The table for the terminal: a row for each metric, the floor in brackets; p beside the second and later groups."""
    by_name = {metric.name: metric for metric in (*all_metrics(), *text_metrics())}
    rows = rows_of(groups)
    with_p = [group.name for group in groups if any(row["groups"][group.name]["p"] is not None for row in rows)]
    columns = ["test split", *(group.name for group in groups), *(f"p {name}" for name in with_p)]
    cells = []
    for row in rows:
        metric = by_name[row["metric"]]
        scores = [score_cell(metric, row["groups"][group.name]) for group in groups]
        cells.append([metric.heading, *scores, *(p_text(row["groups"][name]["p"]) for name in with_p)])
    for title, texts in costs_of(groups).items():
        cells.append([title, *texts, *[""] * len(with_p)])
    caption = "in brackets: the floor, the same score of real data"
    if any(len(group.runs) > 1 for group in groups):
        caption += "; ±: standard deviation over seeds"
    if with_p:
        caption += f"; p: Welch's t-test over seeds against {groups[0].name}"
    elif len(groups) > 1:
        caption += "; one run each: NAME@seeds tests a difference"
    return WrappedTable(columns, cells, caption=caption)


def score_cell(metric: Metric, cell: Mapping[str, Any]) -> str:
    """`3.07 ± 0.12 (0.065)`; empty without a score."""
    if cell["mean"] is None:
        return ""
    text = metric.text({metric.name: cell["mean"], f"{metric.name}_std": cell["std"]}, with_std=True)
    floor = metric.text({metric.name: cell["floor"]})
    return f"{text} ({floor})" if floor else text


def p_text(p: float | None) -> str:
    """A p-value with two digits."""
    return "" if p is None else "<0.001" if p < 0.001 else f"{p:.2g}"


def as_markdown(groups: Sequence[Group]) -> str:
    """The table in Markdown."""
    table = score_table(groups)
    head, *rows = [[literal(cell) for cell in line] for line in (table.columns, *table.rows)]
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{table.caption}."


def as_csv(groups: Sequence[Group]) -> str:
    """A line for each metric and group: metric, group, runs, mean, std, p, floor."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["metric", "group", "runs", "mean", "std", "p", "floor"])
    for row in rows_of(groups):
        for name, cell in row["groups"].items():
            numbers = [cell[key] for key in ("runs", "mean", "std", "p", "floor")]
            writer.writerow([row["metric"], plain_cell(name), *numbers])
    return text.getvalue().rstrip()


def as_json(groups: Sequence[Group]) -> dict[str, Any]:
    """Runs, rows and costs of the groups."""
    runs = {group.name: [str(run.path) for run in group.runs] for group in groups}
    costs = {group.name: [cost_of(run) for run in group.runs] for group in groups}
    test = "Welch's t-test over seeds against the first group"
    return {"runs": runs, "test": test, "metrics": rows_of(groups), "costs": costs}
