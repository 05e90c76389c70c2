"""A wheel installed into a clean environment has the code, the presets, the zoo and the feature networks."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAX_BYTES = 60 * 2**20

pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--wheel-dir", str(folder), str(ROOT)], check=True)
    return next(folder.glob("genai-*.whl"))


@pytest.fixture(scope="module")
def genai(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of an environment with this wheel; the dependencies come from the environment that runs the tests."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    packages = folder / "lib" / version / "site-packages"
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin/python"), "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True)
    (packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder / "bin/genai"


def call(genai: Path, folder: Path, *words: str) -> str:
    """What a command prints in an empty folder, far from the checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([str(genai), *words], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_is_small(wheel: Path) -> None:
    assert wheel.stat().st_size <= MAX_BYTES


def test_the_code_is_that_of_the_wheel(genai: Path, tmp_path: Path) -> None:
    python = [str(genai.with_name("python")), "-c", "import genai, genai.shipped as s; print(genai.__file__, s.SHIPPED)"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    file, shipped = subprocess.run(python, cwd=tmp_path, env=environment, capture_output=True, text=True).stdout.split()
    assert Path(file).is_relative_to(genai.parents[1])
    assert Path(shipped) == Path(file).parent / "_shipped"


def test_it_lists_trains_and_samples_from_an_empty_folder(genai: Path, tmp_path: Path) -> None:
    assert "digits/gan " in call(genai, tmp_path, "presets")
    assert "zoo/digits-diffusion" in call(genai, tmp_path, "runs")
    call(genai, tmp_path, "sample", "zoo/mnist-gan", "--num", "4", "--out", "four.png")
    assert (tmp_path / "four.png").is_file()
    quick = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--evaluation.num_samples", "64"]
    printed = call(genai, tmp_path, "fit", "-c", "digits/gan", "--tracker", "none", *quick)
    assert "genai test runs/digits-gan/" in printed
    call(genai, tmp_path, "sample", "digits-gan", "--num", "4", "--out", "mine.png")
    assert {path.name for path in tmp_path.iterdir()} == {"four.png", "mine.png", "runs"}
