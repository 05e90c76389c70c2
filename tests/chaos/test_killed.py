"""Killed at random moments, a fit ends as if nothing had happened. $GENAI_KILLS is the number of kills."""

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.families import FAMILIES, family
from tests.forks import Child, Forks
from tests.training.test_preemption import assert_same

pytestmark = [pytest.mark.slow, pytest.mark.long]
KILLS = int(os.environ.get("GENAI_KILLS", 20))
OPTIONS = ["--trainer.max_epochs", "3", "--trainer.limit_train_batches", "10", "--evaluation.every_n_epochs", "1"]
OPTIONS += ["--checkpoint_every_n_steps", "3", "--trainer.num_sanity_val_steps", "1", "--gallery.every_n_epochs", "1"]


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks() as server:
        yield server


def run_in(folder: Path) -> Path | None:
    """The run that has begun in `folder`, if it can be resumed."""
    complete = [path.parent for path in folder.glob("runs/*/*/run.json") if (path.parent / "config.yaml").is_file()]
    return max(complete, key=lambda path: path.stat().st_mtime, default=None)


def start(forks: Forks, name: str, folder: Path) -> Child:
    """Begin, or go on."""
    run = run_in(folder)
    arguments = ["--resume", str(run)] if run else [*family(name), *OPTIONS]
    return forks.start(["fit", *arguments], folder)


@pytest.mark.parametrize("name", FAMILIES)
def test_killed_at_random(name: str, forks: Forks, tmp_path: Path) -> None:
    reference = fresh(tmp_path / "whole")
    longest = timed(start(forks, name, reference))
    moments, kills, rounds = random.Random(name), 0, 0
    folder = fresh(tmp_path / "killed-0")
    while kills < KILLS or run_in(folder) or not rounds:
        child = start(forks, name, folder)
        if kills < KILLS:
            time.sleep(moments.uniform(0, longest))
            if child.is_running():
                child.kill(signal.SIGKILL)
        status = child.wait()
        assert status in (0, -signal.SIGKILL), child.output.read_text()
        if status:
            kills += 1
            continue
        longest *= 0.8  # it had ended before it could be killed
        assert_same(found(folder), found(reference))
        rounds += 1
        folder = fresh(tmp_path / f"killed-{rounds}")


def timed(child: Child) -> float:
    """Seconds until it has ended as it should."""
    began = time.monotonic()
    assert child.wait() == 0, child.output.read_text()
    return time.monotonic() - began


def fresh(folder: Path) -> Path:
    folder.mkdir()
    return folder


def found(folder: Path) -> Path:
    run = run_in(folder)
    assert run is not None
    return run


def test_a_checkpoint_cut_short_is_refused_and_the_one_before_offered(forks: Forks, tmp_path: Path) -> None:
    assert start(forks, "gan", tmp_path).wait() == 0
    run = found(tmp_path)
    last = run / "checkpoints/last.ckpt"
    whole = last.read_bytes()
    more = ["--trainer.max_epochs", "4"]
    for damage in (whole[: len(whole) // 2], whole[:-1], b""):
        last.write_bytes(damage)
        child = forks.start(["fit", "--resume", str(run), *more], tmp_path)
        assert child.wait() == 2
        (line,) = [line for line in child.output.read_text().splitlines() if line.startswith("genai:")]
        assert f"{last} is damaged" in line
        assert line.endswith("use the one before it, --checkpoint previous")
    child = forks.start(["fit", "--resume", str(run), "--checkpoint", "previous", *more], tmp_path)
    assert child.wait() == 0, child.output.read_text()
    assert torch.load(last, weights_only=True)["epoch"] == 3


def test_a_write_that_fails_leaves_the_checkpoint_before(forks: Forks, tmp_path: Path) -> None:
    assert start(forks, "gan", tmp_path).wait() == 0
    run = found(tmp_path)
    before = (run / "checkpoints/last.ckpt").read_bytes()
    more = ["fit", "--resume", str(run), "--trainer.max_epochs", "4"]
    child = forks.start(more, tmp_path, LARGEST_FILE=str(len(before) // 2))
    assert child.wait() == 2
    lines = [line for line in child.output.read_text().splitlines() if "File too large" in line]
    assert len(lines) == 1
    assert "last.ckpt is as it was" in lines[0]
    assert (run / "checkpoints/last.ckpt").read_bytes() == before
    assert forks.start(more, tmp_path).wait() == 0


def test_a_second_fit_into_a_run_is_refused(forks: Forks, tmp_path: Path) -> None:
    first = forks.start(["fit", *family("gan"), *OPTIONS, "--trainer.max_epochs", "1000"], tmp_path)
    while not (run := run_in(tmp_path)) or not (run / "checkpoints/last.ckpt").is_file():
        assert first.is_running(), first.output.read_text()
    second = forks.start(["fit", "--resume", str(run)], tmp_path)
    assert second.wait() == 2
    assert f"is being written by process {first.pid}" in second.output.read_text()
    assert first.is_running()
    first.kill(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    num_epochs = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["epoch"] + 2  # the first fit was quick or slow
    assert forks.start(["fit", "--resume", str(run), "--trainer.max_epochs", str(num_epochs)], tmp_path).wait() == 0
