"""What a user gets wrong is one line, before anything is written."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genai import runs
from genai.cli import main
from genai.training.launch import next_steps
from genai.training.lightning_cli import GenaiCLI
from tests.families import CONFIGS, QUIET, family

FACES = sorted(path.stem for path in (CONFIGS.parent / "faces").glob("*.yaml"))
NEED_LABELS = ("utkface-features",)
ONE_OF_EACH = ("cgan", "cluster-r3gan", "diffusion", "gan", "utkface-features", "vae", "vqvae")


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line with which a command is refused."""
    assert main(list(words)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return error


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of 40 colour pictures without labels."""
    folder = tmp_path / "my pictures"
    folder.mkdir()
    for i in range(40):
        pixels = np.random.default_rng(i).integers(0, 256, (70, 70, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# -- a resume that is refused ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GAN of three batches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENAI_RUNS", str(tmp_path_factory.mktemp("trained") / "runs"))
        assert main(["fit", *family("gan"), "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "3"]) == 0
        return runs.find("digits-gan").path


SGD = ["--model.init_args.generator_optimizer", "SGD", "--model.init_args.generator_optimizer.lr", "0.1"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model.init_args.generator.init_args.latent_dim", "12"], "checkpoint of another model"),
        (SGD, "not of SGD"),
        (["--model.init_args.num_microbatches", "100"], "num_microbatches 100"),
    ],
    ids=["network", "optimiser", "microbatches"],
)
def test_a_refused_resume_changes_nothing(
    options: list[str], message: str, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(trained)
    assert message in refused(capsys, "fit", "--resume", str(trained), *options)
    assert content(trained) == before


@pytest.mark.slow
def test_files_of_a_resumed_run_are_written_after_the_restore(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even a restore that fails in the middle, in Lightning's own code, changes nothing."""
    run = Path(shutil.copytree(trained, tmp_path / "runs/digits-gan/copy"))
    before = content(run)

    def fail(*arguments: object) -> None:
        raise OSError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr("lightning.pytorch.trainer.connectors.checkpoint_connector._CheckpointConnector.restore_optimizers", fail)
        with pytest.raises(OSError, match="the disk is gone"):
            main(["fit", "--resume", str(run), "--model.init_args.ema_halflife_kimg", "7", "--trainer.max_epochs", "2"])
    assert content(run) == before
    assert main(["fit", "--resume", str(run), "--model.init_args.ema_halflife_kimg", "7", "--trainer.max_epochs", "2"]) == 0
    assert runs.Run(run).config()["model"]["init_args"]["ema_halflife_kimg"] == 7
    assert (run / "config.1.yaml").read_bytes() == before["config.yaml"]
    assert len(runs.Run(run).record()["resumed_with"]) == 1


# -- data without labels -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("preset", [pytest.param(name, marks=[pytest.mark.long] * (name not in ONE_OF_EACH)) for name in FACES])
def test_every_preset_of_faces_takes_pictures_without_labels(
    preset: str, pictures: Path, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(CONFIGS.parent / f"faces/{preset}.yaml")
    words = ["-c", config, "--data", "ImageFolder", "--data.init_args.root", str(pictures), *QUIET]
    words += ["--trainer.fast_dev_run", "1"]
    if preset in NEED_LABELS:
        assert "needs labels" in refused(capsys, "fit", *words)
        return
    if "conditional: true" in Path(config).read_text():
        assert "--model.init_args.conditional false" in refused(capsys, "fit", *words)
        words += ["--model.init_args.conditional", "false"]
    assert not GenaiCLI("fit", words).model.conditional
    assert not (workspace / "runs").exists()


# -- options out of range, and names of metrics ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data.init_args.batch_size", "0"], "batch_size 0"),
        (["--data.init_args.num_workers", "-1"], "num_workers -1"),
        (["--model.init_args.generator_optimizer.init_args.lr", "-1"], "Invalid learning rate: -1"),
        (["--seed_everything", "-1"], "seed_everything -1"),
        (["--evaluation.batch_size", "0"], "evaluation.batch_size 0"),
        (["--evaluation.num_samples", "1"], "evaluation.num_samples 1"),
        (["--evaluation.every_n_epochs", "-1"], "evaluation.every_n_epochs -1"),
        (["--gallery.num", "0"], "gallery.num 0"),
        (["--checkpoint_every_n_steps", "-3"], "checkpoint_every_n_steps -3"),
        (["--model.init_args.num_microbatches", "100"], "a batch of 64 images"),
        (["--checkpoint_every_n_steps", "0"], "checkpoint_every_n_steps 0"),
        (["--evaluation.every_n_epochs", "1", "--best_metric", "val/fidd"], "did you mean `val/fid`?"),
        (["--evaluation.every_n_epochs", "1", "--best_metric", "val/loss"], "best_metric `val/loss`"),
    ],
    ids=lambda value: "" if isinstance(value, str) else value[-2].rpartition(".")[2].strip("-"),
)
def test_an_option_that_cannot_be_used_is_one_line_before_a_run_exists(
    options: list[str], message: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(capsys, "fit", *family("gan"), *options)
    assert not (workspace / "runs").exists()


def test_options_that_lightning_refuses_leave_no_run(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "trainer refuses" in refused(capsys, "fit", *family("gan"), "--trainer.devices", "0")
    assert not list(workspace.glob("runs/*"))


def test_a_mode_of_wandb_that_does_not_exist(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offlin")
    assert "use offline" in refused(capsys, "fit", *family("gan"), "--tracker", "wandb")
    assert not (workspace / "runs").exists()


def test_a_feature_network_of_other_channels_is_refused_before_training(
    pictures: Path, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "fit",
        "-c",
        str(CONFIGS.parent / "faces/gan.yaml"),
        "--data",
        "ImageFolder",
        "--data.init_args.root",
        str(pictures),
    ]
    words += [*QUIET, "--evaluation.features", "mnist", "--evaluation.every_n_epochs", "1"]
    error = refused(capsys, *words)
    assert "`mnist` reads images of 1 channel(s), these have 3" in error
    assert "genai export-features" in error
    assert not (workspace / "runs").exists()


@pytest.mark.parametrize(("text", "message"), [("", "is empty"), ("# a comment\n", "is empty"), ("- 1\n", "`option: value`")])
def test_a_yaml_without_options(text: str, message: str, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text(text)
    assert message in refused(capsys, "fit", "-c", "mine.yaml")


# -- what a fit says at its end, and text in any encoding --------------------------------------------------------------------


def test_closing_lines_suggest_what_can_be_done(tmp_path: Path) -> None:
    run = tmp_path / "my runs/first"
    gan, classifier = (GenaiCLI("fit", [*family(name), "--trainer.fast_dev_run", "1"]).model for name in ("gan", "features"))
    (nothing,) = next_steps(run, gan)
    assert "no checkpoint" in nothing
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints/mine.ckpt").touch()
    assert not any("--resume" in line for line in next_steps(run, gan))
    (run / "checkpoints/last.ckpt").touch()
    assert [shlex.split(line.partition(": ")[2])[:3] for line in next_steps(run, gan)] == [
        ["genai", "test", str(run)],
        ["genai", "sample", str(run)],
        ["genai", "fit", "--resume"],
    ]
    assert str(run) == shlex.split(next_steps(run, gan)[2])[5]
    assert not any("genai sample" in line for line in next_steps(run, classifier))
    assert any("genai classify" in line for line in next_steps(run, classifier))
    classifier.attributes = True  # type: ignore[assignment]
    assert not any("genai classify" in line for line in next_steps(run, classifier))


@pytest.mark.slow
def test_a_fit_that_ended_by_its_steps_continues_with_more_steps(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *family("gan"), *QUIET, "--experiment", "steps", "--trainer.max_steps", "2"]) == 0
    assert "--trainer.max_steps MORE" in capsys.readouterr().out


def test_arrows_are_printed_in_any_encoding() -> None:
    text = ascii("FID \u2193 caf\u00e9 \udce9")
    code = f"from genai.cli.streams import print_any_text; print_any_text(); print({text})"
    for encoding, expected in (("ascii", b"FID v caf? ?"), ("utf-8", "FID \u2193 caf\u00e9 ?".encode())):
        environment = os.environ | {"PYTHONIOENCODING": encoding}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=True)
        assert done.stdout.strip() == expected
