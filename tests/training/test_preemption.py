"""Stopped by a signal in any phase, a fit leaves a checkpoint from which it resumes to the same end; SLURM queues it again."""

import csv
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import get_worker_info

import genai.training.callbacks.checkpoints as checkpoints
from genai import runs
from genai.cli import main
from genai.data.arrays import ImageArray
from genai.data.workers import GRACE
from genai.training.callbacks.evaluation import EvaluateSamples
from genai.training.callbacks.randomness import SeedEachBatch
from tests.families import FAMILIES, family
from tests.forks import Forks

SHORT = ["--trainer.max_epochs", "2", "--trainer.limit_train_batches", "4", "--evaluation.every_n_epochs", "1"]
SIGNALS = {"training": signal.SIGUSR1, "validation": signal.SIGTERM, "sampling": signal.SIGINT, "saving": signal.SIGTERM}
NAMES = {signal.SIGUSR1: "SIGUSR1", signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}


def fit(name: str) -> list[str]:
    return ["fit", *family(name), *SHORT, "--trainer.num_sanity_val_steps", "0"]


def state(run: Path) -> dict[str, Any]:
    """All that a finished run holds: its last checkpoint and the rows of metrics.csv."""
    checkpoint = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    with (run / "metrics.csv").open(newline="") as file:
        rows = [{k: v for k, v in row.items() if v and k != "images_per_second"} for row in csv.DictReader(file)]
    kept = {name: checkpoint[name] for name in ("state_dict", "optimizer_states", "images_seen", "epoch", "global_step")}
    return kept | {"rows": rows}


def assert_same(first: Path, second: Path) -> None:
    one, two = state(first), state(second)
    assert one.pop("rows") == two.pop("rows")
    torch.testing.assert_close(one, two, rtol=0, atol=0)


def only_run(folder: Path) -> Path:
    (path,) = folder.glob("runs/*/*/run.json")
    return path.parent


def after(calls: int, function: Callable, number: int) -> Callable:
    """`function`, which at its n-th call first sends this process a signal."""
    count = 0

    def wrapped(*arguments: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count == calls:
            os.kill(os.getpid(), number)
        return function(*arguments, **options)

    return wrapped


@pytest.fixture(autouse=True)
def fail_on_signals_not_taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A signal that the fit leaves alone fails the test, and does not end it."""

    def fail(number: int, frame: Any) -> None:
        raise AssertionError("the signal was not taken")

    before = {number: signal.signal(number, fail) for number in NAMES}
    yield
    assert all(signal.getsignal(number) == fail for number in NAMES), "the fit did not give the signals back"
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The run of an uninterrupted fit of a family."""

    @cache
    def trained(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            assert main(fit(name)) == 0
        return only_run(folder)

    return trained


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "phase"),
    [
        pytest.param(name, phase, marks=[pytest.mark.long] * ((name, phase) != ("gan", "training")))
        for name in FAMILIES
        for phase in SIGNALS
        if (name, phase) != ("features", "sampling")  # a classifier does not sample
    ],
)
def test_stopped_by_a_signal(
    name: str,
    phase: str,
    whole: Callable[[str], Path],
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    uninterrupted = whole(name)
    number = SIGNALS[phase]
    with monkeypatch.context() as patch:
        if phase == "training":
            hook = "on_train_batch_start"
            patch.setattr(SeedEachBatch, hook, after(6, getattr(SeedEachBatch, hook), number))
        elif phase == "validation":
            hook = f"on_{phase}_batch_start"
            patch.setattr(EvaluateSamples, hook, after(2, getattr(EvaluateSamples, hook), number))
        elif phase == "sampling":
            patch.setattr(EvaluateSamples, "_sample_features", after(1, EvaluateSamples._sample_features, number))
        else:
            patch.setattr(checkpoints, "write", after(1, checkpoints.write, number))
        assert main(fit(name)) == 2
    run = only_run(workspace)
    assert (
        f"stopped by {NAMES[number]}; to continue: genai fit --resume {run.relative_to(workspace)}" in capsys.readouterr().err
    )
    assert torch.load(run / "checkpoints/last.ckpt", weights_only=True)["images_seen"] < state(uninterrupted)["images_seen"]
    assert main(["fit", "--resume", str(run)]) == 0
    assert_same(run, uninterrupted)


@pytest.mark.slow
def test_a_second_ctrl_c_waits_for_nothing(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the run, which had no checkpoint yet, hides no other of its experiment."""
    assert main(fit("gan")) == 0
    whole = runs.find("digits-gan").path
    hook = SeedEachBatch.on_train_batch_start
    twice = after(1, after(1, hook, signal.SIGINT), signal.SIGINT)
    monkeypatch.setattr(SeedEachBatch, "on_train_batch_start", twice)
    with pytest.raises(SystemExit):
        main(fit("gan"))
    assert len(list(whole.parent.iterdir())) == 2
    assert runs.find("digits-gan").path == whole
    assert runs.find("digits-gan", trained=False).path != whole


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("split", ["training", "validation"])
def test_stopped_while_a_loader_process_hangs(
    split: str,
    whole: Callable[[str], Path],
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its batch never comes, and the fit ends within seconds."""
    name, uninterrupted = "gan", whole("gan")
    read, batches = ImageArray.__getitems__, {"training": 0, "validation": 0}

    def read_or_hang(images: ImageArray, indices: Any) -> Any:
        kind = "training" if len(images) > 500 else "validation"  # digits have 1,097 and 350
        batches[kind] += get_worker_info() is not None
        if (kind, batches[kind]) == (split, {"training": 6, "validation": 4}[split]):
            time.sleep(1)  # until the fit waits
            os.kill(os.getppid(), signal.SIGTERM)
            time.sleep(1000)
        return read(images, indices)

    command = [*fit(name), "--data.init_args.num_workers", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(ImageArray, "__getitems__", read_or_hang)
        begin = time.monotonic()
        assert main(command) == 2
        assert time.monotonic() - begin < GRACE
    assert "stopped by SIGTERM; to continue" in capsys.readouterr().err
    assert main(["fit", "--resume", str(only_run(workspace))]) == 0
    assert_same(only_run(workspace), uninterrupted)


@pytest.mark.slow
def test_stopped_before_the_first_batch_comes(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def hang(images: ImageArray, indices: Any) -> Any:
        time.sleep(1)
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(1000)

    monkeypatch.setattr(ImageArray, "__getitems__", hang)
    assert main([*fit("gan"), "--data.init_args.num_workers", "1"]) == 2
    assert "no checkpoint was written: start it again" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------------------------
# SLURM: its environment variables, its signals, and a scontrol that writes its arguments into a file


JOB = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "1", "SLURM_NNODES": "1", "SLURM_NODEID": "0"}
JOB |= {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS_PER_NODE": "1", "SLURM_NODELIST": "127.0.0.1"}


def fake_scontrol(folder: Path) -> Path:
    """A scontrol that writes its arguments into requests.txt; returns the folder to put on PATH."""
    script = folder / "bin/scontrol"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\necho "$@" >> {folder}/requests.txt\n')
    script.chmod(0o755)
    return script.parent


@pytest.mark.slow
def test_a_job_that_slurm_queues_again_goes_on_with_its_run(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", f"{fake_scontrol(workspace)}:{os.environ['PATH']}")
    for name, value in JOB.items():
        monkeypatch.setenv(name, value)
    command = fit("gan")
    monkeypatch.setattr(sys, "argv", ["genai", *command])
    with monkeypatch.context() as patch:
        hook = "on_train_batch_start"
        patch.setattr(SeedEachBatch, hook, after(6, getattr(SeedEachBatch, hook), signal.SIGUSR1))
        assert main(command) == 2
    assert "job 4711 is queued again" in capsys.readouterr().err
    assert (workspace / "requests.txt").read_text() == "requeue 4711\n"
    run = only_run(workspace)
    before = runs.Run(run).record()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert main(command) == 0
    assert only_run(workspace) == run
    assert runs.Run(run).record()["tracker_id"] == before["tracker_id"]
    assert state(run)["images_seen"] == 8 * 64


@pytest.mark.slow
@pytest.mark.long
def test_two_tasks_of_srun_stop_and_go_on_together(workspace: Path) -> None:
    path = {"PATH": f"{fake_scontrol(workspace)}:{os.environ['PATH']}"}
    command = [*fit("gan"), "--trainer.max_epochs", "400", "--evaluation.every_n_epochs", "0"]
    command += ["--checkpoint_every_n_steps", "20"]
    job = JOB | path | {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "MASTER_PORT": str(20000 + os.getpid() % 20000)}
    ranks = [{"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)} for rank in range(2)]
    with Forks() as forks:
        tasks = [forks.start(command, workspace, **job | rank) for rank in ranks]
        while not list(workspace.glob("runs/*/*/checkpoints/last.ckpt")):
            assert all(task.is_running() for task in tasks), tasks[0].output.read_text()
        tasks[1].kill(signal.SIGUSR1)  # one process gets it, both stop
        assert [task.wait() for task in tasks] == [2, 2], [task.output.read_text() for task in tasks]
        assert (workspace / "requests.txt").read_text() == "requeue 4711\n"
        seen = state(only_run(workspace))["images_seen"]
        job |= {"SLURM_RESTART_COUNT": "1"}
        tasks = [forks.start(command, workspace, **job | rank) for rank in ranks]
        while state(only_run(workspace))["images_seen"] == seen:
            assert all(task.is_running() for task in tasks), tasks[0].output.read_text()
        tasks[0].kill(signal.SIGTERM)
        assert [task.wait() for task in tasks] == [2, 2], [task.output.read_text() for task in tasks]
    assert (workspace / "requests.txt").read_text() == "requeue 4711\n"
    assert len(json.loads((only_run(workspace) / "run.json").read_text())["resumed_with"]) == 1
