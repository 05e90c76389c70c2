"""genai score: pictures of any program, from a folder, a zip or an .npz, get the scores of genai.evaluate."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import genai
from genai.cli import main
from genai.data.digits import Digits
from genai.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 training digits as PNGs, a zip of them, and an .npz with labels."""
    place = tmp_path_factory.mktemp("pictures")
    images, labels = Digits().split("train").batch(range(100))
    np.savez(place / "x.npz", images=images.numpy()[:, 0], labels=labels.numpy())
    (place / "png").mkdir()
    with zipfile.ZipFile(place / "x.zip", "w") as archive:
        for i, image in enumerate(images[:, 0].numpy()):
            Image.fromarray(image).save(place / f"png/{i:03d}.png")
            archive.write(place / f"png/{i:03d}.png", f"{i:03d}.png")
    return place


@pytest.mark.parametrize("name", ["png", "x.zip", "x.npz"])
def test_the_scores_are_those_of_evaluate(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", str(folder / name), "--against", "digits", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    images, labels = Digits().split("train").batch(range(100))
    expected = genai.evaluate(images, "digits", labels=labels if name == "x.npz" else None)
    assert printed["scores"] == pytest.approx(expected.scores)
    assert printed["floor"] == pytest.approx(expected.floor)
    assert printed["protocol"]["num_samples"] == 100


def test_it_prints_a_table_of_80_columns(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", str(folder / "x.npz"), "--against", "digits", "--two-sample"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("FID") for line in lines)
    assert any(line.startswith("Coverage") for line in lines)
    assert any(line.startswith("Two-sample accuracy") for line in lines)


def test_mistakes_are_one_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "one/a.png")
    (tmp_path / "text.png").write_text("no picture")
    np.savez(tmp_path / "big.npz", images=np.zeros((5, 9, 9), np.uint8))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/a.png").write_text("no picture")
    wrong = {
        "there is no": "nowhere",
        "has 1 image": "one",
        "resize them": "big.npz",
        "cannot be read": "bad",
    }
    for message, name in wrong.items():
        assert main(["score", str(tmp_path / name), "--against", "digits"]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert main(["score", str(folder / "png"), "--against", "mnist"]) == 2
    assert "8x8 pixels" in capsys.readouterr().err
    assert main(["score", str(folder / "png"), "--against", "digit"]) == 2
    assert "did you mean digits" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["<u2", ">i4", "<u8"])
def test_labels_of_any_integer_type(kind: str, folder: Path, workspace: Path) -> None:
    content = dict(np.load(folder / "x.npz"))
    np.savez("typed.npz", images=content["images"], labels=content["labels"].astype(kind))
    assert main(["score", "typed.npz", "--against", "digits"]) == 0


def test_labels_of_another_kind_are_refused() -> None:
    images, labels = Digits().split("train").batch(range(20))
    with pytest.raises(UserError, match="the labels have shape"):
        genai.evaluate(images, "digits", labels=torch.nn.functional.one_hot(labels, 10))


def test_a_device_that_is_not_there_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", str(folder / "x.npz"), "--against", "digits", "--device", "nowhere"]) == 2
    error = capsys.readouterr().err
    assert "the device nowhere cannot be used here" in error
    assert error.count("\n") == 1
