"""genai sample --watermark and genai detect: the key is found, another key is not; images, text, bad input."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genai.cli import main
from genai.cli.verbs.detect import combined

DIGITS = "zoo/digits-diffusion"
TEXT = "zoo/shakespeare-mingru"


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 40 marked and 40 plain digits, and a marked text."""
    folder = tmp_path_factory.mktemp("marked")
    num = ["--num", "40"]
    assert main(["sample", DIGITS, *num, "--watermark", "secret", "--out", str(folder / "marked.npz")]) == 0
    assert main(["sample", DIGITS, *num, "--out", str(folder / "plain.npz")]) == 0
    assert main(["sample", DIGITS, "--num", "3", "--watermark", "secret", "--out", str(folder / "three")]) == 0
    assert main(["sample", TEXT, "--tokens", "120", "--watermark", "secret", "--out", str(folder / "a.txt")]) == 0
    return folder


def num_found(output: str) -> int:
    line = next(line for line in output.splitlines() if " are marked; " in line)
    return int(line.split(" of ")[0])


@pytest.mark.slow
def test_the_key_is_found_in_images_and_another_key_is_not(marked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = {}
    for name, key in (("marked", "secret"), ("plain", "secret"), ("marked", "other")):
        status = main(["detect", str(marked / f"{name}.npz"), "--run", DIGITS, "--key", key])
        assert status == (0 if (name, key) == ("marked", "secret") else 1)
        output = capsys.readouterr().out
        assert "0.4 expected without a mark" in output
        assert max(map(len, output.splitlines())) <= 200
        found[name, key] = num_found(output)
    assert found["marked", "secret"] >= 20
    assert found["plain", "secret"] <= 3
    assert found["marked", "other"] <= 3


def test_a_folder_and_single_files(marked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detect", str(marked / "three" / "00000.png"), "--run", DIGITS, "--key", "secret"]) == 0
    single = capsys.readouterr().out.splitlines()[1]
    Image.new("L", (20, 10)).save(marked / "large.png")
    assert main(["detect", str(marked / "large.png"), "--run", DIGITS, "--key", "secret"]) == 1
    assert "large.png is 20x10: its central square is resized to 8x8" in capsys.readouterr().out
    assert main(["detect", str(marked / "three"), "--run", DIGITS, "--key", "secret"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[1] == single.split()[1]  # the same p-value


def test_the_key_is_found_in_text(marked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for status, (key, word) in enumerate((("secret", "marked"), ("other", "no mark found"))):
        assert main(["detect", str(marked / "a.txt"), "--run", TEXT, "--key", key]) == status
        assert capsys.readouterr().out.splitlines()[1].endswith(word)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["detect", "nothing.png", "--run", DIGITS, "--key", "a"], "there is no file nothing.png"),
        (["detect", ".", "--run", DIGITS, "--key", " "], "the key of a watermark is empty"),
        (["detect", ".", "--run", "zoo/nothing", "--key", "a"], "there is no run `zoo/nothing`"),
        (["sample", "zoo/mnist-vqvae", "--watermark", "a"], "whose noise cannot be found again"),
        (["sample", "zoo/mnist-cluster-r3gan", "--watermark", "a"], "not standard normal"),
        (["sample", DIGITS, "--watermark", "a", "--sampler", "ddpm"], "the sampler ddpm adds noise in its steps"),
        (["sample", "zoo/mnist-cr3gan", "--watermark", "a"], "cannot be found again in an image without its label"),
        (["sample", "zoo/mnist-gan", "--watermark", ""], "the key of a watermark is empty"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], words: str, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert list(workspace.iterdir()) == []


@pytest.mark.slow
@pytest.mark.long
def test_the_latents_of_a_gan_are_marked(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "zoo/mnist-gan", "--num", "4", "--watermark", "secret", "--out", "a.npz"]) == 0
    assert main(["detect", "a.npz", "--run", "zoo/mnist-gan", "--key", "secret"]) == 0
    assert num_found(capsys.readouterr().out) >= 2


def test_p_values_of_alike_files_are_combined_for_any_dependence() -> None:
    assert combined([0.004] * 50) == pytest.approx(4 * 0.004)  # alike: hardly more than one of them says
    assert combined([1e-9] * 20) < 1e-7
    assert combined([1e-6, *[0.5] * 9]) == pytest.approx(2e-5)
    random = np.random.default_rng(0)
    for together in (np.repeat(random.random((5000, 1)), 8, axis=1), random.random((5000, 8))):
        assert np.mean([combined(row) < 0.05 for row in together]) <= 0.05
