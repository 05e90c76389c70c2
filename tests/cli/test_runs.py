"""genai runs: names that can be typed, at any width."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from genai.cli import main
from genai.cli.verbs.runs import make_table
from genai.metrics.registry import all_metrics
from genai.runs import REPOSITORY, Run

NAMES = ("digits-cluster-r3gan-64/2026-11-21_21-17-04", "mnist-gan/2026-11-21_21-17-04-3")


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    for name in NAMES:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        for file in ("run.json", "config.yaml", "metrics.json"):
            (folder / file).write_bytes((REPOSITORY / "zoo/digits-diffusion" / file).read_bytes())
    metrics = json.loads((tmp_path / NAMES[1] / "metrics.json").read_text())
    metrics["test"]["overrides"] = ["--model.init_args.steps=3"]
    (tmp_path / NAMES[1] / "metrics.json").write_text(json.dumps(metrics))
    return [Run(tmp_path / name) for name in NAMES]


@pytest.mark.parametrize("width", [80, 120])
def test_names_scores_and_floors_are_whole_in_a_terminal(runs: list[Run], width: int) -> None:
    console = Console(width=width, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(make_table(runs))
    text = capture.get()
    assert max(map(len, text.splitlines())) <= width
    scores = runs[0].scores()["test"]
    for metric in all_metrics():
        if metric.name in scores["scores"]:
            assert metric.heading in text
            assert f"{metric.text(scores['scores'])} ({metric.text(scores['floor'])})" in text
    assert all(name in text for name in NAMES)
    assert "test *" in text


def test_in_a_pipe_each_run_has_one_line(runs: list[Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4  # heading, two runs, caption
    for name in NAMES:
        (row,) = [line for line in lines if line.startswith(f"{name} ")]
        assert "0.3758 (0.3531)" in row


def test_a_run_without_scores_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "digits-gan/new"
    folder.mkdir(parents=True)
    for file in ("run.json", "config.yaml"):
        (folder / file).write_bytes((REPOSITORY / "zoo/digits-diffusion" / file).read_bytes())
    assert main(["runs", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "digits-gan/new"
