"""genai explain: a classifier, a discriminator and a VQ model of digits, each with its test; bad input."""

from pathlib import Path

import pytest
import torch

from genai.cli import main
from genai.cli.internals import verdict_lines
from tests.families import CONFIGS, QUIET, TRUST, family

FEATURES = ["-c", str(CONFIGS / "features.yaml"), "--model.init_args.network.init_args.channels=[8,16]", *QUIET]
FEATURES += ["--model.init_args.ema_halflife_kimg", "0.2"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained classifier, a GAN of two batches and a VQ model of 24 batches."""
    folder = tmp_path_factory.mktemp("explain")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        quick = ["--trainer.max_epochs", "4", "--trainer.limit_val_batches", "0"]
        assert main(["fit", *FEATURES, *quick, "--experiment", "features"]) == 0
        short = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "0"]
        assert main(["fit", *family("gan"), *short, "--experiment", "gan", *TRUST]) == 0
        short[1], short[3] = "2", "12"
        assert main(["fit", *family("vqvae"), *short, "--experiment", "vqvae", *TRUST]) == 0
    return folder


@pytest.mark.parametrize(
    ("name", "words"), [("features", "change of log-odds"), ("gan", "change of log-odds"), ("vqvae", "codes are used")]
)
def test_each_kind_of_model_is_explained(
    name: str, words: str, runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(runs)
    capsys.readouterr()
    assert main(["explain", name, "--checkpoint", "last", *TRUST, "--num", "40", "--out", f"{name}.png"]) == 0
    output = capsys.readouterr().out
    assert words in output
    assert max(map(len, output.splitlines())) <= 80
    assert Path(f"{name}.png").stat().st_size > 500
    if name == "features":
        assert "the explanation is faithful" in output


def test_integrated_gradients_are_faithful_and_complete(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("captum")
    monkeypatch.chdir(runs)
    for name in ("features", "gan"):
        arguments = ["explain", name, "--checkpoint", "last", *TRUST, "--num", "40", "--method", "gradients"]
        assert main([*arguments, "--out", f"{name}-gradients.png"]) == 0
        output = capsys.readouterr().out
        assert "change of log-odds" in output
        assert "the explanation is faithful" in output or name == "gan"


def test_heads_of_a_transformer_of_text(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "zoo/shakespeare-gpt", "--num", "16", "--out", "heads.png"]) == 0
    output = capsys.readouterr().out
    assert "block 4" in output
    assert "the explanation is faithful" in output
    assert max(map(len, output.splitlines())) <= 80


@pytest.mark.slow
def test_layers_that_a_direction_changes(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["explain", "zoo/avatars-cr3gan", "--direction", "glasses", "--num", "8", "--out", "layers.png"]
    assert main(arguments) == 0
    output = capsys.readouterr().out
    assert "stages.2.0.expand" in output
    assert max(map(len, output.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["features", "--target", "ten"], "there is no class or attribute 'ten'"),
        (["vqvae", "--target", "1"], "is no classifier: leave --target out"),
    ],
)
def test_targets_are_checked(
    arguments: list[str], words: str, runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(runs)
    assert main(["explain", *arguments, "--checkpoint", "last", *TRUST]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("run", "words"), [("zoo/mnist-gan", "has no discriminator"), ("zoo/digits-diffusion", "has no captions")]
)
def test_models_that_cannot_be_explained(run: str, words: str, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", run]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert list(workspace.iterdir()) == []


def test_few_tests_can_not_show_that_an_explanation_is_faithful() -> None:
    def verdict(num: int) -> str:
        return verdict_lines(1 + torch.rand(num), torch.zeros(num), "pixels", "its cell")[-1]

    assert "add --num" in verdict(6)  # the smallest p-value is 1/64
    assert "is faithful" in verdict(7)
