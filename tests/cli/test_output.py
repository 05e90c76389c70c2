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
        (["likelihood", "zoo/digits-diffusion", "--num", "2", "--steps", "2"], 5),
        (["restoration", "zoo/digits-diffusion", "--num", "4", "--steps", "2"], 13),
        (["compare", "zoo/digits-diffusion", "--num", "4"], 17),
        (["runs"], 32),
        (["runs", "--all-metrics"], 120),
    ],
)
def test_output_fits_80_columns(
    arguments: list[str], num_lines: int, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    lines = [line for line in captured.out.splitlines() if line]
    assert max(map(len, lines)) <= 80
    assert len(lines) <= num_lines
    lines = [line for line in lines if not line.startswith("  floor")]  # parts of two floors may agree
    assert len(set(lines)) == len(lines)
    for picture in workspace.glob("*.png"):
        assert min(Image.open(picture).size) >= 56  # a digit of 8x8 pixels is enlarged to be readable


def test_the_table_of_runs_has_a_floor_below_the_scores(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "zoo/mnist-gan", "zoo/mnist-vae"]) == 0
    header, one, other, floor, notes, *_ = (line.split() for line in capsys.readouterr().out.splitlines())
    assert header[:3] == ["run", "kimg", "fid"]
    assert (one[0], other[0], floor[0]) == ("zoo/mnist-gan", "zoo/mnist-vae", "floor")
    assert len(one) == len(other) > len(floor)  # also where the first has metrics that the other has not
    assert min(float(one[2]), float(other[2])) > float(floor[1]) > 0  # FID
    assert notes[0] == "kimg:"


def test_scores_stand_side_by_side(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "zoo/mnist-gan", "zoo/mnist-vae", "--num", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["test", "split", "zoo/mnist-gan", "zoo/mnist-vae"]
    fid = lines[1].replace("(", "").replace(")", "").split()[2:]
    assert float(fid[0]) > float(fid[1]) > 0  # the score, and its floor in brackets
    assert max(map(len, lines)) <= 80


def test_commands_to_copy_quote_spaces(capsys: pytest.CaptureFixture[str]) -> None:
    from genai.cli.options.arguments import command

    assert command("test", Path("my runs/a")) == "genai test 'my runs/a'"
