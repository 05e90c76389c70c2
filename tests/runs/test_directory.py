"""The run directory: which run of an experiment is its newest."""

import os
from pathlib import Path

import pytest

from genai import runs
from genai.runs import write_json


def make_run(name: str, written: int, **record: str) -> None:
    folder = Path("runs/digits-gan") / name
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("model: {}\ndata: {}\n")
    write_json(folder / "run.json", record)
    os.utime(folder / "run.json", (written, written))


def test_the_newest_run_was_started_or_resumed_last(workspace: Path) -> None:
    make_run("first", 5, started="2026-01-01T10:00:00+0000")  # written again when it was copied
    make_run("second", 1, started="2026-01-01T12:00:00+0100")
    make_run("third", 2, started="2026-01-01T09:00:00+0000", resumed="2026-01-01T13:00:00+0000")
    make_run("fourth", 3, started="2026-01-01T13:00:00+0000")  # in the same second
    assert [run.path.name for run in runs.all_runs()] == ["first", "second", "third", "fourth"]
    assert runs.find("digits-gan").path.name == "fourth"


@pytest.mark.parametrize("record", [{"started": "yesterday"}, {}])
def test_a_run_without_its_time_goes_by_that_of_its_file(record: dict[str, str], workspace: Path) -> None:
    make_run("old", 1, **record)
    make_run("new", 2, started="2026-01-01T10:00:00+0000")
    assert runs.find("digits-gan").path.name == "new"
