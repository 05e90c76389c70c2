"""genai runs: whole names, scores and floors at any width."""

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


@pytest.mark.parametrize("with_all", [False, True])
@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("width", [80, 120])
def test_names_scores_and_floors_are_whole(runs: list[Run], width: int, terminal: bool, with_all: bool) -> None:
    console = Console(width=width, force_terminal=terminal, color_system=None)
    with console.capture() as capture:
        console.print(make_table(runs, None if with_all else width))
    text = capture.get()
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert all(part in text for name in NAMES for part in name.split("/"))
    assert f"{NAMES[1].split('/')[1]} *" in text
    test = runs[0].scores()["test"]
    for metric in all_metrics() if with_all else all_metrics()[:1]:
        if metric.name in test["scores"]:
            assert metric.name in text
            assert metric.text(test["scores"]) in text
            assert metric.text(test["floor"]) in text


def test_a_run_without_scores_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "digits-gan/new"
    folder.mkdir(parents=True)
    for file in ("run.json", "config.yaml"):
        (folder / file).write_bytes((REPOSITORY / "zoo/digits-diffusion" / file).read_bytes())
    assert main(["runs", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["digits-gan/new", "digits", "0"]


def test_the_folder_of_an_experiment_and_a_zoo_of_ones_own_are_listed(
    runs: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    for run in runs:
        assert main(["runs", str(run.path.parent)]) == 0
        assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:2]] == [run.name]
