"""The leaderboard: every zoo entry with its scores, floors and protocol, as Markdown.

python -m genai.report.leaderboard [FILE]       writes docs/results/leaderboard.md, or FILE
"""

import math
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from genai.errors import UserError
from genai.files import write_atomically
from genai.metrics.protocol import Protocol
from genai.metrics.registry import Metric, all_metrics, text_metrics
from genai.metrics.text import TextProtocol
from genai.report.comparison import protocol_key, protocol_of
from genai.runs import REPOSITORY, Run, is_run
from genai.runs.files import check_types
from genai.shipped import preset_name

TARGET = REPOSITORY / "docs" / "results" / "leaderboard.md"
HEADER = """\
# Leaderboard

Scores of the models in zoo/, computed from the weights in each folder by `genai test`. The arrow shows which direction is
better. The floor is the score of as many real training images against the same reference; a metric cannot tell a model from
the data if the model's score is as good as the floor. Scores are comparable within one table, which has one protocol. The best
score of each column is bold. A metric is in a table if at least half of its entries have it.

This file is written by `python -m genai.report.leaderboard`; do not edit it.
"""


class Entry(NamedTuple):
    """A zoo entry, its run record and its evaluation on the test split."""

    run: Run
    record: dict[str, Any]
    test: dict[str, Any]

    @property
    def is_text(self) -> bool:
        """Whether it is a model of text."""
        return "tokenizer" in self.test["protocol"]

    @property
    def protocol(self) -> Protocol | TextProtocol:
        """What the scores depend on."""
        return protocol_of(self.test)


def entries(zoo: Path) -> list[Entry]:
    """The evaluated entries of a zoo folder: images, then text; by protocol, then by FID or bits per byte."""
    runs = [Run(path) for path in sorted(zoo.iterdir()) if is_run(path)]
    found = [entry for run in runs if (entry := read_entry(run)) is not None]

    def place(entry: Entry) -> tuple[Any, ...]:
        score = entry.test["scores"].get("bits_per_byte" if entry.is_text else "fid", math.inf)
        return entry.is_text, entry.protocol.data, protocol_key(entry.test), score

    return sorted(found, key=place)


def read_entry(run: Run) -> Entry | None:
    """An entry; None if it was not tested, or one of its files is damaged, which is named on stderr."""
    try:
        test = run.scores().get("test")
        if test is None:
            return None
        check_types(test, {"protocol": dict, "parameters": dict}, run.path / "metrics.json")
        entry = Entry(run, run.record(), test)
        entry.protocol.describe()
    except (UserError, TypeError) as error:
        print(f"{run.path} is left out: {error}", file=sys.stderr)
        return None
    return entry


def section(group: list[Entry]) -> Iterator[str]:
    """The lines of entries with one protocol: heading, table, protocol."""
    is_text = group[0].is_text
    declared = text_metrics() if is_text else all_metrics()
    counts = [sum(metric.name in entry.test["scores"] for entry in group) for metric in declared]
    metrics = [metric for metric, count in zip(declared, counts, strict=True) if 2 * count >= len(group)]
    yield f"## {group[0].protocol.data}, {group[0].protocol.num_samples:,} samples\n"
    columns = ["entry", "preset", "parameters", f"{'tokens' if is_text else 'images'} seen", *(m.heading for m in metrics)]
    yield f"| {' | '.join(columns)} |"
    yield f"|---|---|{'--:|' * (len(columns) - 2)}"
    for entry in group:
        path = f"zoo/{entry.run.path.name}"
        sizes = ", ".join(f"{name} {size:,}" for name, size in entry.test["parameters"].items())
        cells = [
            f"[{path}](../../{path}/README.md)",
            preset_name(entry.record["command"]),
            sizes,
            f"{entry.test['images_seen']:,}",
        ]
        cells += [cell(metric, entry, group) for metric in metrics]
        yield f"| {' | '.join(cells)} |"
    shared = [metric for metric in metrics if not is_text or len({entry.test["floor"][metric.name] for entry in group}) == 1]
    floors = (metric.text(group[0].test["floor"], with_std=True) if metric in shared else "" for metric in metrics)
    yield f"| floor ({'real text' if is_text else 'real against real'}) | | | | {' | '.join(floors)} |"
    yield f"\nProtocol: {group[0].protocol.describe()}.\n"


def cell(metric: Metric, entry: Entry, group: list[Entry]) -> str:
    """The score of an entry, bold if it is the best of the group."""
    text = metric.text(entry.test["scores"], with_std=True)
    values = [other.test["scores"][metric.name] for other in group if metric.name in other.test["scores"]]
    best = max(values) if metric.better == "higher" else min(values)
    is_best = len(set(values)) > 1 and entry.test["scores"].get(metric.name) == best
    return f"**{text}**" if is_best else text


def leaderboard(zoo: Path) -> str:
    """The whole page."""
    lines = [HEADER]
    for _, group in groupby(entries(zoo), key=lambda entry: protocol_key(entry.test)):
        lines += section(list(group))
    return "\n".join(lines).rstrip() + "\n"


def main(arguments: list[str]) -> None:
    """Write the page."""
    target = Path(arguments[0]) if arguments else TARGET
    write_atomically(target, leaderboard(REPOSITORY / "zoo"))
    print(f"wrote {target}")


if __name__ == "__main__":
    main(sys.argv[1:])
