"""Events of mode collapse, reported once each, and samples/collapse.csv, the table that they are derived from."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genai.files import read_csv, write_csv
from genai.metrics.collapse import Diagnosis
from genai.metrics.evaluation import EvaluationResult

Row = dict[str, Any]  # of collapse.csv
MESSAGES = {
    "collapse": "collapse at",
    "worse": "the collapse is worse at",
    "recovered": "recovered at",
    "not yet": "the samples are not yet like the data at",
    "no longer": "the samples are no longer like the data at",
}
TEXT_COLUMNS = ("state", "event")
INT_COLUMNS = ("epoch", "images_seen", "num_overrepresented", "num_missing")


def next_event(earlier: Sequence[Row], diagnosis: Diagnosis) -> str:
    """The key of MESSAGES to report after the `earlier` rows; empty if nothing is new.

    A collapse lasts until samples that are like the data show none; it is not reported again in between.
    """
    events = [row["event"] for row in earlier if row["event"]]
    last = events[-1] if events else ""
    if diagnosis.state == "fine":
        return "recovered" if last in ("collapse", "worse", "no longer") else ""
    if diagnosis.state == "collapsed":
        if last not in ("collapse", "worse"):
            return "collapse"
        return "worse" if is_worse(earlier, diagnosis) else ""
    if not diagnosis.is_uneven:
        return ""
    if all(row["state"] == "low_precision" for row in earlier):
        return "" if events else "not yet"
    return "" if last in ("collapse", "worse", "no longer") else "no longer"


def is_worse(earlier: Sequence[Row], diagnosis: Diagnosis) -> bool:
    """Whether more classes are affected than at any event of this collapse; without classes, whether recall has halved."""
    start = max(i for i, row in enumerate(earlier) if row["event"] == "collapse")
    reported = [row for row in earlier[start:] if row["event"]]
    affected = len(diagnosis.overrepresented) + len(diagnosis.missing)
    if affected == 0:
        return bool(diagnosis.recall < min(row["recall"] for row in reported) / 2)
    return bool(affected > max(row["num_overrepresented"] + row["num_missing"] for row in reported))


def make_row(epoch: int, images_seen: int, result: EvaluationResult, diagnosis: Diagnosis, event: str) -> Row:
    """A row of collapse.csv, without columns that were not measured; shares are listed for at most MAX_SHARES classes."""
    row: Row = {"epoch": epoch, "images_seen": images_seen, "state": diagnosis.state, "event": event}
    row |= {"num_overrepresented": len(diagnosis.overrepresented), "num_missing": len(diagnosis.missing)}
    metrics = result.metrics()
    names = [f"{name}{floor}" for name in ("class_kl", "num_modes", "precision", "recall") for floor in ("", "_floor")]
    row |= {name: metrics[name] for name in names if name in metrics}
    return row | {name: value for name, value in metrics.items() if name.startswith("share_")}


def rows_before(rows: Sequence[Row], images_seen: int) -> list[Row]:
    """The rows of less than `images_seen` training images."""
    return [row for row in rows if row["images_seen"] < images_seen]


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write collapse.csv, whole or not at all."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    write_csv(path, [columns, *([row.get(name, "") for name in columns] for row in rows)])


def read_rows(path: Path) -> list[Row]:
    """The rows that `write_rows` wrote; none if there is no file. Damaged lines are counted on stderr and left out."""
    if not path.is_file():
        return []
    rows, num_damaged = read_csv(path)
    found = []
    for row in rows:
        try:
            found.append({name: _value(name, text) for name, text in row.items() if text or name == "event"})
        except ValueError:
            num_damaged += 1
    readable = [row for row in found if {"images_seen", "event", "state"} <= row.keys()]
    num_damaged += len(found) - len(readable)
    if num_damaged:
        print(f"genai: {path} has {num_damaged} damaged lines, which are left out", file=sys.stderr)
    return readable


def _value(name: str, text: str) -> Any:
    if name in TEXT_COLUMNS:
        return text
    return int(text) if name in INT_COLUMNS else float(text)
