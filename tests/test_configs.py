"""Every shipped config is parsed, instantiated and run for two small batches on the CPU, in bfloat16 where that is not slow.

A model with one optimiser gives each parameter a gradient: plain DDP, which it gets in several processes, needs that.
"""

import os
import tarfile
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from genai.cli import main
from genai.models.base import Model
from genai.models.precision import is_slow
from genai.training.lightning_cli import GenaiCLI

ROOT = Path(__file__).parent.parent
CONFIGS = sorted(path for path in (ROOT / "configs").rglob("*.yaml") if path.parent.name not in ("trainer", "sweeps"))
TRAINERS = sorted((ROOT / "configs/trainer").glob("*.yaml"))
QUICK = ["--trainer.fast_dev_run", "2", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
PRECISION = "32" if is_slow("bf16-mixed", torch.device("cpu")) else "bf16-mixed"
QUICK += ["--trainer.precision", PRECISION, "--trainer.enable_model_summary", "false", "--data.init_args.batch_size", "4"]
QUICK += ["--evaluation.num_samples", "16", "--gallery.every_n_epochs", "0"]
LONG = {"authors-gpt", "mails-gpt", "mnist-stacked-cluster-r3gan", "shakespeare-gpt-gpu", "shakespeare-gpt-long"}
TWINS = {"mnist": "digits", "code": "shakespeare", "pydocs": "shakespeare"}  # presets of the same name have the same model
ONE_OF_EACH = {"faces/gan", "faces/diffusion", "faces/utkface-features", "avatars/vae"}
NEEDS = {
    "mnist": "MNIST/raw/train-images-idx3-ubyte",
    "faces": "utkface/UTKFace.tar.gz",
    "shakespeare": "tinyshakespeare/input.txt",
    "mails": "spam/mails.csv.gz",
    "authors": "plays/milton/paradise_lost.txt",
}


@pytest.fixture(scope="module")
def few_faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the first 300 photographs of UTKFace, where there are any."""
    folder = tmp_path_factory.mktemp("data")
    archive = data_folder() / NEEDS["faces"]
    if archive.is_file():
        (folder / "utkface").mkdir()
        with tarfile.open(archive, "r|gz") as photos, tarfile.open(folder / NEEDS["faces"], "w:gz") as few:
            for member in islice((member for member in photos if member.isfile()), 300):
                few.addfile(member, photos.extractfile(member))
    return folder


def name_of(config: Path) -> str:
    return f"{config.parent.name}-{config.stem}"


def marks_of(config: Path) -> list[pytest.MarkDecorator]:
    """All but the digits are slow, and large networks and images long, if another preset has the same model."""
    folder = config.parent.name
    if f"{folder}/{config.stem}" in ONE_OF_EACH:
        return [pytest.mark.slow]
    twin = config.parent.parent / TWINS.get(folder, "") / config.name
    is_long = folder in ("avatars", "faces") or name_of(config) in LONG or (folder in TWINS and twin.is_file())
    if is_long:
        return [pytest.mark.slow, pytest.mark.long]
    return [pytest.mark.slow] * (folder != "digits")


PRESETS = [pytest.param(config, id=name_of(config), marks=marks_of(config)) for config in CONFIGS]


def data_folder() -> Path:
    return Path(os.environ.get("GENAI_DATA", "data"))


def data_or_skip(config: Path) -> list[str]:
    """Options for small data; skips where the files are absent."""
    folder = config.parent.name
    needed = NEEDS.get(folder)
    if needed and not (data_folder() / needed).is_file():
        pytest.skip(f"{needed} is not in $GENAI_DATA")
    if folder == "avatars":
        return ["--data.init_args.num_images", "300"]
    return ["--data.init_args.num_triples", "1000"] if "stacked" in config.stem else []


@pytest.mark.parametrize("config", PRESETS)
def test_two_batches_of(config: Path, workspace: Path, few_faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = data_or_skip(config)
    if config.stem.endswith("rl"):
        pytest.skip("continues a run: tests/models/test_reinforce.py and test_image_rewards.py train one")
    unused: set[str] = set()
    monkeypatch.setattr(Model, "on_after_backward", lambda self: unused.update(without_gradient(self)))
    content = yaml.safe_load(config.read_text())
    if config.parent.name == "faces":
        monkeypatch.setenv("GENAI_DATA", str(few_faces))
    if config.parent.name != "digits":  # samples of large images take long, and faces have no feature network of their own
        options += ["--evaluation.every_n_epochs", "0"]
    assert "model" in content
    assert main(["fit", "-c", str(config), *QUICK, *options]) == 0
    assert not (workspace / "runs").exists()
    assert not unused


def without_gradient(model: Model) -> list[str]:
    """Trained parameters without a gradient after a backward pass, of a model with one optimiser."""
    if len(model.trainer.optimizers) > 1:
        return []
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad and parameter.grad is None]


def test_a_header_says_how_to_run() -> None:
    def header(config: Path) -> list[str]:
        return [line for line in config.read_text().splitlines() if line.startswith("#")]

    commands = {config: f"genai fit -c {config.relative_to(ROOT)}" for config in CONFIGS}
    assert [
        name_of(config) for config, command in commands.items() if not any(command in line for line in header(config))
    ] == []


@pytest.mark.slow
def test_large_presets_are_parsed() -> None:
    """Those that .ci/run does not train."""

    class WithoutObjects(GenaiCLI):
        def instantiate_classes(self) -> None:
            """Only parse."""

    large = [str(config) for config in CONFIGS if pytest.mark.long in marks_of(config)]
    parser = WithoutObjects("fit", ["--config", large[0]]).parser
    for config in large[1:]:
        assert parser.parse_args(["fit", "--config", config]).fit.model.class_path.startswith("genai.models.")


@pytest.mark.parametrize("family", ["gan", "diffusion"])  # two optimisers and one
@pytest.mark.parametrize("trainer", TRAINERS, ids=lambda path: path.stem)
def test_trainer_files_compose(trainer: Path, family: str, capsys: pytest.CaptureFixture[str]) -> None:
    config = ROOT / f"configs/digits/{family}.yaml"
    with pytest.raises(SystemExit) as exit_info:
        main(["fit", "-c", str(config), "-c", str(trainer), "--print_config"])
    assert exit_info.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    for key, value in yaml.safe_load(trainer.read_text())["trainer"].items():
        assert named(printed["trainer"][key]) == named(value)
    assert printed["trainer"]["max_epochs"] == yaml.safe_load(config.read_text())["trainer"]["max_epochs"]


def named(value: Any) -> str:
    """A setting, of a class only its name."""
    return str(value["class_path"] if isinstance(value, dict) else value)
