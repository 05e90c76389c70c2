"""An interrupted run goes on to the very weights of an uninterrupted one."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from genai import runs
from genai.cli import main

ROOT = Path(__file__).parents[2]
FIT = ["-c", str(ROOT / "configs/digits/gan.yaml"), "--tracker", "none", "--trainer.enable_progress_bar", "false"]
FIT += ["--trainer.enable_model_summary", "false", "--evaluation.every_n_epochs", "0", "--gallery.every_n_epochs", "0"]
FIT += ["--data.init_args.augment", "{rotate: 10, translate: 0.1}", "--trainer.log_every_n_steps", "5"]


def weights(run: Path) -> dict[str, torch.Tensor]:
    checkpoint = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    return checkpoint["state_dict"] | {"images_seen": torch.tensor(checkpoint["images_seen"])}


def assert_equal(first: Path, second: Path) -> None:
    one, two = weights(first), weights(second)
    assert one.keys() == two.keys()
    for key in one:
        assert torch.equal(one[key], two[key]), key


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three epochs at a stretch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENAI_RUNS", str(tmp_path_factory.mktemp("whole") / "runs"))
        assert main(["fit", *FIT, "--trainer.max_epochs", "3"]) == 0
        return runs.find("digits-gan").path


@pytest.fixture(scope="module")
def first_epoch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One epoch of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENAI_RUNS", str(tmp_path_factory.mktemp("first") / "runs"))
        assert main(["fit", *FIT, "--trainer.max_epochs", "1"]) == 0
        return runs.find("digits-gan").path


@pytest.mark.slow
def test_resume_after_an_epoch_is_exact(uninterrupted: Path, first_epoch: Path, workspace: Path) -> None:
    run = Path(shutil.copytree(first_epoch, workspace / "runs/digits-gan" / first_epoch.name))
    tracker = runs.Run(run).record()["tracker_id"]
    assert main(["fit", "--resume", str(run), "--trainer.max_epochs", "3"]) == 0
    assert_equal(run, uninterrupted)
    assert runs.Run(run).record()["tracker_id"] == tracker
    assert len(runs.Run(run).record()["resumed_with"]) == 1
    assert len(list(run.parent.iterdir())) == 1


@pytest.mark.slow
def test_an_option_of_an_optimiser_that_is_given_anew_wins_over_the_checkpoint(first_epoch: Path, workspace: Path) -> None:
    """The generator stands still with a learning rate of 0, and the other optimiser goes on as it was."""
    run = Path(shutil.copytree(first_epoch, workspace / "runs/digits-gan" / first_epoch.name))
    before = weights(run)
    zero = ["--model.init_args.generator_optimizer.init_args.lr", "0.0"]
    assert main(["fit", "--resume", str(run), "--trainer.max_epochs", "2", *zero]) == 0
    after = weights(run)
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"discriminator", "averaged", "images_seen"}
    groups = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["optimizer_states"]
    assert [state["param_groups"][0]["lr"] for state in groups] == [0.0, 2e-4]


def start(workspace: Path, *options: str) -> subprocess.Popen:
    """A fit in a process of its own, slowed down enough to be hit in the middle of an epoch."""
    code = (
        "import sys, time, genai.models.gan.gan as g; step = g.GAN.training_step\n"
        "def slow(self, batch, batch_idx):\n    time.sleep(0.05); return step(self, batch, batch_idx)\n"
        "g.GAN.training_step = slow\nfrom genai.cli import main\nsys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "fit", *FIT, "--trainer.max_epochs", "3", *options]
    return subprocess.Popen(command, cwd=workspace, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(condition, process: subprocess.Popen, seconds: float = 240) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "the fit did not start"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_resume_in_the_middle_of_an_epoch_is_exact(number: int, uninterrupted: Path, workspace: Path) -> None:
    process = start(workspace, "--checkpoint_every_n_steps", "5")
    wait_for(lambda: list(workspace.glob("runs/*/*/checkpoints/last.ckpt")), process)
    time.sleep(0.3)
    os.kill(process.pid, number)
    output = process.communicate(timeout=240)[0]
    run = runs.find("digits-gan").path
    batches = weights(run)["images_seen"].item() // 64
    assert batches % 17 > 0, f"not in the middle of an epoch: {output}"
    if number == signal.SIGTERM:
        assert f"genai fit --resume {run}" in output
    assert not list(run.rglob("*.tmp")) or number == signal.SIGKILL
    assert main(["fit", "--resume", str(run)]) == 0
    assert_equal(run, uninterrupted)


def test_a_zoo_entry_cannot_be_resumed(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in (("config.yaml", "model: {}"), ("run.json", "{}"), ("weights.safetensors", "")):
        path = workspace / "zoo/thing" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert main(["fit", "--resume", "zoo/thing"]) == 2
    assert "zoo entry" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_is_not_continued_with_other_images_unless_that_is_wanted(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", *FIT, "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2"]) == 0
    run = runs.find("digits-gan").path
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    resume = ["fit", "--resume", str(run), "--trainer.max_epochs", "2", "--data.init_args.num_train", "500"]
    capsys.readouterr()
    assert main(resume) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert all(part in line for part in ("last.ckpt", "other data", "--init_from", "--changed_data"))
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    with pytest.warns(UserWarning, match="training data of digits are not those of the checkpoint"):
        assert main([*resume, "--changed_data"]) == 0
    assert main(["fit", "--resume", str(run), "--trainer.max_epochs", "3"]) == 0  # the config has the new data now
