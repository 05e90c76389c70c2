"""The README's worked example is run as it stands."""

import re
from pathlib import Path

import pytest

from genai.cli import main

README = (Path(__file__).parent.parent / "README.md").read_text()


def block(language: str) -> str:
    match = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert match is not None
    return match.group(1)


def test_the_worked_example_is_short_and_trains(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len((block("python") + block("yaml")).splitlines()) <= 60
    (workspace / "mean_example.py").write_text(block("python"))
    (workspace / "mean.yaml").write_text(block("yaml").replace("genai.models.mean.mean.Mean", "mean_example.Mean"))
    monkeypatch.syspath_prepend(str(workspace))
    options = ["--tracker", "none", "--trainer.max_epochs", "2", "--trainer.enable_progress_bar", "false"]
    assert main(["fit", "-c", "mean.yaml", *options, "--evaluation.num_samples", "100"]) == 0
    assert main(["sample", "mean", "--trust", "mean_example", "--out", "mean.png"]) == 0
    assert (workspace / "mean.png").is_file()


def test_every_picture_and_page_linked_is_there() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    for link in links:
        assert (Path(__file__).parent.parent / link).exists(), link
