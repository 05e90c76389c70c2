"""genai.evaluate: images in memory against a dataset."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import genai
from genai.data.digits import Digits
from genai.errors import UserError
from genai.images import to_float
from genai.metrics.evaluation import Evaluator
from genai.metrics.features import extract, load_extractor
from genai.report.evaluate import as_uint8, data_named, datasets


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """200 training digits, uint8 (N, 1, 8, 8)."""
    return Digits().split("train").batch(range(200)).images


def test_importing_genai_imports_no_torch() -> None:
    code = "import sys, genai; print([m for m in ('torch', 'lightning', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_scores_are_those_of_the_evaluator(images: torch.Tensor) -> None:
    network = load_extractor("digits")
    expected = Evaluator.of(Digits(), "test", network, 200, seed=None).measure(extract(network, [images]))
    result = genai.evaluate(images, "digits")
    assert result.scores == pytest.approx(expected.scores, rel=1e-6)
    assert result.floor == expected.floor
    assert result.protocol == expected.protocol
    assert result.protocol.seed is None


def test_floats_arrays_and_data_modules_are_the_same_images(images: torch.Tensor) -> None:
    result = genai.evaluate(images, "digits")
    assert genai.evaluate(to_float(images), Digits()).scores == result.scores
    assert genai.evaluate(images.numpy(), "digits").scores == result.scores
    assert genai.evaluate(to_float(images).numpy().astype(np.float64), "digits").scores == result.scores


def test_real_images_are_as_good_as_the_floor_and_noise_is_not(images: torch.Tensor) -> None:
    result = genai.evaluate(images, "digits")
    assert result.scores["fid"] < 2 * result.floor["fid"]
    noise = torch.rand(200, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert genai.evaluate(noise, "digits").scores["fid"] > 20 * result.floor["fid"]


def test_the_result_prints_as_a_table_with_floors_of_80_columns(images: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = genai.evaluate(images, "digits")
    lines = str(result).splitlines()
    assert max(map(len, lines)) <= 80
    fid = next(line for line in lines if line.startswith("FID ↓"))
    assert fid.split()[2:] == [format(result.scores["fid"], ".4g"), format(result.floor["fid"], ".4g")]
    assert "200 samples against 200 images of digits/test" in " ".join(lines)
    assert result.to_dict()["scores"] == result.scores


def test_labels_give_the_label_agreement(images: torch.Tensor) -> None:
    labels = Digits().split("train").batch(range(200)).labels
    assert genai.evaluate(images, "digits", labels=labels).scores["label_agreement"] > 0.98
    assert genai.evaluate(images, "digits", labels=(labels + 1) % 10).scores["label_agreement"] < 0.02
    assert "label_agreement" not in genai.evaluate(images, "digits").scores


def test_wrong_images_are_refused_in_one_line(images: torch.Tensor) -> None:
    wrong = {
        "takes 2 to 1097": (images[:1], "digits"),
        "takes 2 to 1097 ": (images.repeat(6, 1, 1, 1), "digits"),
        "give (N, C, H, W)": (images[0], "digits"),
        "have shape (1, 8, 8), those of mnist (1, 28, 28)": (images, "mnist"),
        "scale them to [-1, 1]": (images.float(), "digits"),
        "did you mean digits?": (images, "digit"),
        "give uint8": (images.long(), "digits"),
    }
    for message, (given, against) in wrong.items():
        with pytest.raises(UserError) as error:
            genai.evaluate(given, against)
        assert message.strip() in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="one label for each image"):
        genai.evaluate(images, "digits", labels=[0, 1])  # type: ignore[arg-type]
    with pytest.raises(UserError, match="use 'val' or 'test'"):
        genai.evaluate(images, "digits", split="train")


def test_floats_that_look_like_zero_to_one_are_noted(images: torch.Tensor, capsys: pytest.CaptureFixture[str]) -> None:
    as_uint8(to_float(images))
    as_uint8(images)
    assert capsys.readouterr().err == ""
    as_uint8(images / 255)
    assert "2 * images - 1" in capsys.readouterr().err


def test_nan_is_refused() -> None:
    with pytest.raises(UserError, match="scale them"):
        as_uint8(torch.full((2, 1, 8, 8), float("nan")))


def test_datasets_are_found_by_their_names() -> None:
    known = dict(datasets())
    assert {"digits", "mnist", "fashion", "stacked-mnist", "avatars"} <= set(known)
    for name in known:
        assert data_named(name).name == name
