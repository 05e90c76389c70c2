"""genai memorisation: a model of copies is recognised, zoo/digits-diffusion is not; models without loss and of text."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from genai.cli import main
from genai.cli.verbs.memorisation import with_shares_of
from genai.data.digits import Digits
from genai.images import to_float
from genai.models.diffusion.diffusion import Diffusion
from genai.runs import load

DIGITS = "zoo/digits-diffusion"
QUICK = ["--num", "100", "--steps", "3", "--levels", "4"]


@pytest.mark.slow
def test_copies_are_found_and_new_images_are_not(
    workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["memorisation", DIGITS, *QUICK, "--out", "a.png"]) == 0
    honest = capsys.readouterr().out
    assert max(map(len, honest.splitlines())) <= 80
    assert "by chance 75.8 %" in honest  # 1,097 of 1,447 images
    assert "denoising loss" in honest
    with Image.open("a.png") as picture:
        assert picture.text["Verb"] == "memorisation"  # type: ignore[attr-defined]

    def copy(self: Diffusion, seeds: Any, condition: Any = None, **options: Any) -> torch.Tensor:
        return to_float(Digits().split("train").batch(range(len(seeds))).images)

    monkeypatch.setattr(Diffusion, "sample", copy)
    assert main(["memorisation", DIGITS, *QUICK]) == 0
    copied = capsys.readouterr().out
    assert "100.0 % of the samples (p = 0.0005)" in copied
    assert "copies of one image  100.0 %" in copied


def test_test_images_have_the_class_shares_of_the_training_images() -> None:
    data = Digits(exclude=(0,), class_shares=(0, 4, 1, 1, 1, 1, 1, 1, 1, 1))
    train, held = data.split("train"), data.split("test")
    shares = [np.bincount(labels, minlength=10) / len(labels) for labels in (train.labels, held.labels)]
    assert abs(shares[0] - shares[1]).max() > 0.1
    found = with_shares_of(held, train.labels)
    assert abs(shares[0] - np.bincount(found.labels, minlength=10) / len(found)).max() < 0.02
    assert {image.tobytes() for image in found.images} <= {image.tobytes() for image in held.images}


def test_denoising_errors_depend_on_the_seed_and_the_image_alone() -> None:
    model: Any = load(DIGITS)
    images = to_float(Digits().split("test").batch(range(4)).images)
    labels = torch.tensor([1, 2, 3, 4])
    together = model.denoising_errors(images, [5, 6, 7, 8], labels, 3)
    alone = model.denoising_errors(images[2:3], [7], labels[2:3], 3)
    assert together.shape == (4,)
    torch.testing.assert_close(together[2:3], alone, rtol=1e-3, atol=1e-5)
    assert not torch.allclose(together, model.denoising_errors(images, [1, 2, 3, 4], labels, 3))


def test_inversion_finds_the_initial_noise() -> None:
    model: Any = load(DIGITS)
    noise = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([1, 2, 3, 4])
    images = model.sample(range(4), labels, initial_noise=noise, sampler="heun", steps=25)
    found = model.invert(images, labels, steps=25, sigma_min=0.01)
    similarity = torch.nn.functional.cosine_similarity(found.flatten(1), noise.flatten(1))
    assert similarity.min() > 0.5


def test_other_models(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["memorisation", "zoo/shakespeare-mingru"]) == 2
    assert "which cannot sample images" in capsys.readouterr().err
