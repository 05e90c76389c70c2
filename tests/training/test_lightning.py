"""Lightning's own flags do what Lightning documents: each is run once from the command line, on two small models."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

import genai
from genai import runs
from genai.cli import main
from tests.families import QUIET, family

ROOT = Path(__file__).parents[2]
MEAN = ["--model", "tests.training.automatic.Mean", "--data", "genai.data.digits.Digits", "--data.init_args.batch_size", "64"]
MEAN += [*QUIET, "--trainer.log_every_n_steps", "1", "--evaluation.every_n_epochs", "0", "--gallery.every_n_epochs", "0"]
MEAN += ["--best_metric", "val/loss", "--experiment", "mean"]
CALLBACKS = "lightning.pytorch.callbacks"


def fit(*options: str, model: list[str] = MEAN) -> runs.Run:
    """The run of a fit with these options, of 2 epochs unless they say otherwise."""
    assert main(["fit", *model, "--trainer.max_epochs", "2", *options]) == 0
    (path,) = Path("runs").glob("*/*/run.json")
    return runs.Run(path.parent)


def rows(run: runs.Run) -> list[dict[str, str]]:
    with (run.path / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def images_seen(run: runs.Run) -> int:
    return int(torch.load(run.checkpoint("last"), weights_only=True)["images_seen"])


def test_metrics_stand_at_the_images_seen_after_the_batch(workspace: Path) -> None:
    run = fit("--trainer.limit_train_batches", "3")
    found = rows(run)
    assert [int(row["images_seen"]) for row in found if row["train/loss"]] == [64, 128, 192, 256, 320, 384]
    assert [int(row["images_seen"]) for row in found if row["val/loss"]] == [192, 384]
    assert [int(row["images_seen"]) for row in found if row["images_per_second"]] == [64, 128, 192, 256, 320, 384]


def test_the_logger_of_the_user_gets_the_same_values_at_the_same_steps(workspace: Path) -> None:
    logger = "lightning.pytorch.loggers.CSVLogger"
    monitor = f"--trainer.callbacks+={CALLBACKS}.LearningRateMonitor"
    run = fit("--trainer.limit_train_batches", "3", f"--trainer.logger={logger}", "--trainer.logger.save_dir=mine", monitor)
    (path,) = Path("mine").rglob("metrics.csv")
    with path.open(newline="") as file:
        theirs = list(csv.DictReader(file))
    for name in ("train/loss", "val/loss", "lr-SGD"):
        values = [(int(row["images_seen"]), float(row[name])) for row in rows(run) if row[name]]
        assert values
        assert [(int(row["step"]), float(row[name])) for row in theirs if row[name]] == values


@pytest.mark.parametrize(
    ("options", "images"),
    [
        (["--trainer.max_steps", "5", "--trainer.max_epochs", "-1"], 5 * 64),
        (["--trainer.accumulate_grad_batches", "2", "--trainer.max_steps", "5", "--trainer.max_epochs", "-1"], 10 * 64),
        (["--trainer.gradient_clip_val", "0.1", "--trainer.limit_train_batches", "2"], 4 * 64),
        (["--trainer.overfit_batches", "2"], 4 * 64),
        (["--trainer.profiler", "simple", "--trainer.limit_train_batches", "2"], 4 * 64),
        (["--trainer.limit_train_batches", "2", "--trainer.val_check_interval", "1"], 4 * 64),
    ],
    ids=lambda value: value[0].split(".")[-1] if isinstance(value, list) else "",
)
def test_a_flag_trains_on_so_many_images(options: list[str], images: int, workspace: Path) -> None:
    assert images_seen(fit(*options)) == images


def test_clipping_bounds_the_gradient(workspace: Path) -> None:
    """One step of gradient descent from zero with a learning rate of 1 is as long as the clipped gradient."""
    clipped = fit("--trainer.gradient_clip_val", "0.001", "--trainer.max_steps", "1", "--model.init_args.lr", "1.0")
    state = torch.load(clipped.checkpoint("last"), weights_only=True)["state_dict"]
    assert float(state["network.image"].norm()) == pytest.approx(0.001, rel=1e-3)


def test_overfitting_sees_the_same_batches_in_each_epoch(workspace: Path) -> None:
    found = rows(fit("--trainer.overfit_batches", "1", "--model.init_args.lr", "1e-9", "--trainer.max_epochs", "3"))
    losses = [float(row["train/loss"]) for row in found if row["train/loss"]]
    assert len(losses) == 3
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


@pytest.mark.slow
def test_max_time_ends_a_fit(workspace: Path) -> None:
    run = fit("--trainer.max_time", "00:00:00:02", "--trainer.max_epochs", "-1")
    assert images_seen(run) > 0


def test_early_stopping(workspace: Path) -> None:
    stopping = [f"--trainer.callbacks+={CALLBACKS}.EarlyStopping", "--trainer.callbacks.monitor=val/loss"]
    stopping += ["--trainer.callbacks.patience=1", "--trainer.callbacks.min_delta=10"]
    run = fit(*stopping, "--trainer.max_epochs", "50", "--trainer.limit_train_batches", "2")
    assert torch.load(run.checkpoint("last"), weights_only=True)["epoch"] == 1


def test_early_stopping_on_what_is_not_logged_is_one_line(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stopping = [f"--trainer.callbacks+={CALLBACKS}.EarlyStopping", "--trainer.callbacks.monitor=val/fid"]
    assert main(["fit", *MEAN, "--trainer.max_epochs", "2", *stopping]) == 2
    error = capsys.readouterr().err
    assert error.count("genai:") == 1
    assert "`val/fid`" in error


@pytest.mark.slow
def test_a_checkpoint_callback_of_the_user_stands_beside_ours(workspace: Path) -> None:
    theirs = [f"--trainer.callbacks+={CALLBACKS}.ModelCheckpoint", "--trainer.callbacks.save_top_k=-1"]
    run = fit(
        *theirs, "--evaluation.every_n_epochs", "1", "--evaluation.num_samples", "50", "--trainer.limit_train_batches", "2"
    )
    names = {path.name for path in (run.path / "checkpoints").iterdir()}
    assert names == {"best.ckpt", "last.ckpt", "previous.ckpt", "epoch=0-step=2.ckpt", "epoch=1-step=4.ckpt"}
    assert main(["fit", "--resume", str(run.path), "--trust", "tests", "--trainer.max_epochs", "3"]) == 0
    assert "epoch=2-step=6.ckpt" in {path.name for path in (run.path / "checkpoints").iterdir()}


@pytest.mark.parametrize("model", [MEAN, family("gan")], ids=["one optimiser", "two optimisers"])
def test_a_fast_dev_run_writes_nothing(model: list[str], workspace: Path) -> None:
    theirs = f"--trainer.callbacks+={CALLBACKS}.ModelCheckpoint"
    assert main(["fit", *model, "--trainer.fast_dev_run", "2", theirs]) == 0
    assert not list(workspace.iterdir())


def test_averages_that_never_change_are_a_warning(workspace: Path) -> None:
    with pytest.warns(UserWarning, match="the averaged weights did not change in this fit of 128 images"):
        fit("--trainer.limit_train_batches", "1", "--model.init_args.frozen", "true")


def test_averages_that_change_are_none(workspace: Path, recwarn: pytest.WarningsRecorder) -> None:
    fit("--trainer.limit_train_batches", "1")
    assert not [warning for warning in recwarn if "averaged weights" in str(warning.message)]


@pytest.mark.parametrize(
    ("flag", "value", "option"),
    [("gradient_clip_val", "0.5", "max_grad_norm"), ("accumulate_grad_batches", "2", "num_microbatches")],
)
def test_a_flag_that_two_optimisers_cannot_have_names_the_option(
    flag: str, value: str, option: str, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from genai.models.gan.gan import GAN

    flags = {"gradient_clip_val": "max_grad_norm", "accumulate_grad_batches": "num_microbatches"}
    monkeypatch.setattr(GAN, "MANUAL_FLAGS", flags, raising=False)
    assert main(["fit", *family("gan"), f"--trainer.{flag}", value]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"--model.init_args.{option} {value}" in error
    assert not (workspace / "runs").exists()


@pytest.mark.slow
@pytest.mark.long
def test_classes_go_by_their_names(workspace: Path) -> None:
    """In a process of its own, which has imported nothing else."""
    code = (
        "import sys; from genai.training.arguments import parse, resolve; from genai.training.lightning_cli import GenaiCLI\n"
    )
    code += "cli = GenaiCLI('fit', sys.argv[1:]); print(type(cli.model).__name__, type(cli.datamodule).__name__)"
    networks = ["--model.generator", "genai.networks.mlp.MLPGenerator", "--model.discriminator", "MLPDiscriminator"]
    command = [sys.executable, "-c", code, "--model", "GAN", "--data", "Digits", *networks]
    command += ["--evaluation.every_n_epochs", "0", "--trainer.fast_dev_run", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "GAN Digits"


def test_a_checkpoint_waits_for_the_step_of_accumulated_gradients(workspace: Path) -> None:
    options = ["--trainer.limit_train_batches", "4", "--trainer.accumulate_grad_batches", "2", "--trainer.max_epochs", "1"]
    run = fit(*options, "--checkpoint_every_n_steps", "1", "--trainer.limit_val_batches", "0")
    previous = torch.load(run.checkpoint("previous"), weights_only=True)
    assert (previous["global_step"], previous["images_seen"]) == (1, 128)  # after the second batch, not after the third


@pytest.mark.slow
def test_the_last_epoch_can_be_the_best(workspace: Path) -> None:
    options = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--evaluation.num_samples", "50"]
    assert main(["fit", *family("gan"), *options, "--evaluation.every_n_epochs", "2"]) == 0
    assert runs.find("digits-gan").checkpoint("best").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "callback"),
    [
        ("vae", ["StochasticWeightAveraging", "--trainer.callbacks.swa_lrs=1e-3", "--trainer.callbacks.swa_epoch_start=1"]),
        ("vqvae", ["WeightAveraging"]),  # which has a buffer that is not averaged
        ("gan", ["EMAWeightAveraging"]),
    ],
)
def test_averaging_callbacks_of_lightning(name: str, callback: list[str], workspace: Path) -> None:
    theirs = [f"--trainer.callbacks+={CALLBACKS}.{callback[0]}", *callback[1:]]
    run = fit("--trainer.limit_train_batches", "2", "--trainer.max_epochs", "3", *theirs, model=family(name))
    assert main(["fit", "--resume", str(run.path), "--trainer.max_epochs", "4"]) == 0
    weights = genai.load(run.path, checkpoint="last").state_dict()
    assert all(bool(weight.isfinite().all()) for weight in weights.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("callback", "kept"),
    [
        (["Timer", "--trainer.callbacks.duration=00:01:00:00"], {"interval": "step"}),  # an enumeration by default
        (["ModelPruning", "--trainer.callbacks.pruning_fn=l1_unstructured"], {"pruning_fn": "l1_unstructured"}),
    ],
)
def test_config_keeps_the_options_of_a_callback(callback: list[str], kept: dict[str, str], workspace: Path) -> None:
    theirs = [f"--trainer.callbacks+={CALLBACKS}.{callback[0]}", *callback[1:]]
    run = fit("--trainer.limit_train_batches", "2", *theirs, model=family("gan"))
    (config,) = yaml.safe_load((run.path / "config.yaml").read_text())["trainer"]["callbacks"]
    assert config["init_args"].items() >= kept.items()
    assert main(["fit", "--resume", str(run.path), "--trainer.max_epochs", "3"]) == 0


@pytest.mark.slow
def test_a_resumed_fit_has_the_batch_size_and_learning_rate_that_were_found(workspace: Path) -> None:
    finders = [f"--trainer.callbacks+={CALLBACKS}.BatchSizeFinder", "--trainer.callbacks.max_trials=2"]
    finders += [f"--trainer.callbacks+={CALLBACKS}.LearningRateFinder", "--trainer.callbacks.num_training_steps=10"]
    run = fit("--trainer.limit_train_batches", "3", *finders)
    assert images_seen(run) == 2 * 3 * 4
    assert main(["fit", "--resume", str(run.path), "--trust", "tests", "--trainer.max_epochs", "3"]) == 0
    assert images_seen(run) == 3 * 3 * 4


def test_a_callback_of_lightning_that_is_not_for_this_model_is_one_line(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", *family("gan"), f"--trainer.callbacks+={CALLBACKS}.SpikeDetection"]) == 2
    assert "Lightning's SpikeDetection fails with this model" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("callback", ["EarlyStopping", "ModelCheckpoint"])
def test_a_score_that_is_not_computed_in_each_epoch_cannot_be_monitored(
    callback: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = [f"--trainer.callbacks+={CALLBACKS}.{callback}", "--trainer.callbacks.monitor=val/fid"]
    assert main(["fit", *MEAN, "--trainer.max_epochs", "2", "--trainer.limit_train_batches", "1", *theirs]) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("--evaluation.every_n_epochs 1")


@pytest.mark.parametrize("options", [["--averages.every_n_epochs", "0"], ["--trainer.log_every_n_steps", "0"]])
def test_zero_is_never(options: list[str], workspace: Path) -> None:
    fit("--trainer.limit_train_batches", "2", *options)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["test", "zoo/digits-diffusion", "--checkpoint", "other.ckpt"], "one set of weights"),
        (["fit", *family("gan"), "--checkpoint", "other.ckpt"], "--resume"),
        (["fit", *family("gan"), "--changed_data"], "--resume"),
        (["fit", *family("gan"), "--trainer.precision", "bf16-true"], "would freeze the averaged weights"),
        (["fit", *family("gan"), "--trainer.precision", "64-true"], "is only for models of text"),
        (["fit", *family("gan"), "--trainer.barebones", "true"], "--trainer.barebones leaves out"),
        (["fit", *family("gan"), "--data.init_args.size", "0"], "size 0"),
        (["sample", "zoo/digits-diffusion", "--num", "1", "--steps", "0"], "steps"),
    ],
)
def test_what_has_no_effect_or_no_sense_is_one_line(
    command: list[str], words: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (workspace / "runs").exists()
