"""What ships in zoo/, and exporting a run."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

import genai
from genai.cli import main
from genai.errors import UserError
from genai.networks.mlp import MLPGenerator
from genai.runs import REPOSITORY, Run, find
from genai.runs.export import choose_dtype
from genai.training import launch
from tests.cli.test_cli import DIGITS, QUICK

SHORT = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2"]
ENTRIES = sorted(path for path in (REPOSITORY / "zoo").iterdir() if path.is_dir())


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda path: path.name)
def test_an_entry_is_small_and_complete(entry: Path) -> None:
    names = {path.name for path in entry.iterdir()} - {"directions.safetensors"}
    assert names == {"README.md", "config.yaml", "metrics.json", "run.json", "weights.safetensors"}
    assert sum(path.stat().st_size for path in entry.iterdir()) < 10e6
    card, test = (entry / "README.md").read_text(), json.loads((entry / "metrics.json").read_text())["test"]
    name, title, form = (
        ("bits_per_byte", "bits per byte", ".3f") if "bits_per_byte" in test["scores"] else ("fid", "FID", "#.4g")
    )
    assert f"| {title} ↓ | {test['scores'][name]:{form}} | {test['floor'][name]:{form}} |" in card


def test_the_keys_of_the_configs_are_options_of_today() -> None:
    """`genai test` would refuse an entry whose config has a renamed one."""
    request = launch.parse([str(REPOSITORY / "zoo/digits-diffusion")])
    words, policy = launch.resolve("test", request)
    assert policy is not None
    with policy.enforced():
        options = vars(launch.GenaiCLI("test", words, request.trust, policy).config["test"])
    unknown = {entry.name: set(yaml.safe_load((entry / "config.yaml").read_text())) - set(options) for entry in ENTRIES}
    assert not any(unknown.values()), unknown


def test_the_zoo_is_small() -> None:
    assert sum(path.stat().st_size for path in (REPOSITORY / "zoo").rglob("*") if path.is_file()) < 60e6


def test_samples_of_the_mnist_gan_agree_with_its_scores() -> None:
    """Mean grey level and digits of 500 samples, by the shipped feature network; with broken weights the samples are noise."""
    from genai.images import to_uint8
    from genai.metrics.features import load_extractor
    from genai.models.seeds import image_seeds

    model = genai.load("zoo/mnist-gan")
    logits = load_extractor("mnist")(to_uint8(model.sample(image_seeds(0, 500)))).logits
    assert logits is not None
    assert (logits.softmax(1).max(1).values > 0.9).float().mean() > 0.75
    assert len(np.unique(logits.argmax(1).numpy())) == 10


@pytest.mark.slow
def test_exporting_a_run(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [*QUICK, "--evaluation.num_samples", "100"]
    assert main(["fit", "-c", DIGITS, *options, *SHORT, "--evaluation.every_n_epochs", "1"]) == 0
    run = find("digits-gan").path
    assert main(["export", str(run), "zoo/mine"]) == 2
    assert "the same --checkpoint" in capsys.readouterr().err
    assert main(["test", str(run), *options]) == 0
    capsys.readouterr()
    assert main(["export", str(run), "zoo/rounded"]) == 0
    assert "bfloat16" in capsys.readouterr().out.partition("Sample quality")[0]
    assert main(["export", str(run), "zoo/mine", "--dtype", "float32"]) == 0
    assert main(["sample", str(run), "--num", "9", "--out", "run.npz"]) == 0
    assert main(["sample", "zoo/mine", "--num", "9", "--out", "zoo.npz"]) == 0
    assert np.array_equal(np.load("run.npz")["images"], np.load("zoo.npz")["images"])
    before = {path: path.read_bytes() for path in Path("zoo/mine").iterdir()}
    assert main(["test", "zoo/mine", *options]) == 0
    assert {path: path.read_bytes() for path in Path("zoo/mine").iterdir()} == before
    assert main(["export", str(run), "zoo/mine"]) == 2
    assert "--force" in capsys.readouterr().err
    Path("zoo/mine/model.onnx").write_bytes(b"of the earlier weights")
    assert main(["export", str(run), "zoo/mine", "--dtype", "float32", "--force"]) == 0
    assert not Path("zoo/mine/model.onnx").exists()
    assert "removed model.onnx of the earlier weights" in capsys.readouterr().out


class Tied(MLPGenerator):
    """A generator with one weight under two names, in a package that is not genai's."""

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__(image_shape, num_classes, hidden=[16, 16])
        self.again = self.layers[0]


@pytest.mark.slow
def test_a_model_of_another_package_with_tied_weights_exports(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [*QUICK, "--evaluation.num_samples", "50"]
    network = "--model.init_args.generator=tests.runs.test_zoo.Tied"
    assert main(["fit", "-c", DIGITS, *options, *SHORT, "--evaluation.every_n_epochs", "0", network]) == 0
    run = find("digits-gan").path
    assert main(["test", str(run), *options]) == 0
    monkeypatch.setenv("XDG_CONFIG_HOME", str(workspace / "of-a-stranger"))
    assert main(["export", str(run), "zoo/tied"]) == 2
    assert "--trust tests" in capsys.readouterr().err
    assert main(["export", str(run), "zoo/tied", "--dtype", "bfloat16", "--trust", "tests"]) == 0
    assert main(["sample", "zoo/tied", "--num", "4", "--out", "four.npz", "--trust", "tests"]) == 0


@pytest.mark.slow
def test_validate_prints_the_scores(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [*QUICK, "--evaluation.num_samples", "100"]
    assert main(["fit", "-c", DIGITS, *options, *SHORT, "--evaluation.every_n_epochs", "0"]) == 0
    assert main(["validate", "digits-gan", *options]) == 0
    assert "val split" in capsys.readouterr().out


def test_the_type_of_weights_is_not_chosen_by_scores_of_another_protocol() -> None:
    test = Run(REPOSITORY / "zoo/digits-diffusion").scores()["test"]
    other = test | {"protocol": test["protocol"] | {"weights_sha256": "0"}}
    model = genai.load("zoo/digits-diffusion")
    assert choose_dtype("auto", model, test, lambda model, test: test)[0] == "bfloat16"
    with pytest.raises(UserError, match="weights_sha256"):
        choose_dtype("auto", model, test, lambda model, test: other)
    assert choose_dtype("bfloat16", model, test, lambda model, test: other) == ("bfloat16", other)
