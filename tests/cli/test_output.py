"""What the main verbs print, piped: at most 80 columns, no line twice."""

from pathlib import Path

import pytest
from PIL import Image

from genai.cli import main


@pytest.mark.parametrize(
    ("arguments", "num_lines"),
    [
        (["sample", "zoo/digits-diffusion", "--num", "4", "--steps", "2"], 1),
        (["sample", "zoo/digits-diffusion", "--label", "3,4", "--per-label", "2", "--steps", "2"], 1),
        (["vary", "zoo/digits-diffusion", "test/0", "--num", "1", "--steps", "2"], 1),
        (["likelihood", "zoo/digits-diffusion", "--num", "2", "--steps", "2"], 2),
        (["restoration", "zoo/digits-diffusion", "--num", "4", "--steps", "2"], 13),
        (["compare", "zoo/digits-diffusion", "--num", "4"], 1),
        (["runs"], 23),
    ],
)
def test_output_fits_80_columns(
    arguments: list[str], num_lines: int, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    lines = captured.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= num_lines
    assert len(set(lines)) == len(lines)
    for picture in workspace.glob("*.png"):
        assert min(Image.open(picture).size) >= 56  # a digit of 8x8 pixels is enlarged to be readable


def test_the_table_of_runs_has_a_floor_below_each_score(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "zoo/mnist-gan"]) == 0
    header, scores, floor, caption = (line.split() for line in capsys.readouterr().out.splitlines())
    assert header[:3] == ["run", "split", "images"]
    assert scores[:2] == ["zoo/mnist-gan", "test"]
    assert floor[0] == "floor"
    assert len(scores) == len(floor) + 2  # the name and the number of images
    assert float(scores[3]) > float(floor[1]) > 0  # FID
    assert caption[0] == "floor:"


def test_commands_to_copy_quote_spaces(capsys: pytest.CaptureFixture[str]) -> None:
    from genai.cli.options.arguments import command

    assert command("test", Path("my runs/a")) == "genai test 'my runs/a'"
