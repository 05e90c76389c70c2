"""What launchers say in the environment, and what a run makes of it."""

import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from genai.training import cluster
from genai.training.callbacks.preemption import Stopped
from genai.training.devices import num_processes, strategy

SLURM = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "8"}


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*SLURM, *TORCHRUN, "SLURM_RESTART_COUNT", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)


def options(**given: object) -> SimpleNamespace:
    return SimpleNamespace(**({"devices": "auto", "num_nodes": 1, "accelerator": "cpu", "strategy": "auto"} | given))


class Optimised(torch.nn.Module):
    """A model with so many optimisers."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def configure_optimizers(self) -> object:
        optimizers = [torch.optim.SGD([torch.zeros(1)], 0.1) for _ in range(self.count)]
        return optimizers if self.count > 1 else optimizers[0]


@pytest.mark.parametrize("environment", [SLURM, TORCHRUN], ids=["srun", "torchrun"])
def test_devices_and_nodes_are_those_that_were_launched(environment: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cluster.launched() == {}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cluster.launched() == {"devices": 4, "num_nodes": 2}
    assert num_processes(options(devices=1)) == 8


def test_a_shell_inside_of_a_job_is_not_launched_by_srun(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (SLURM | {"SLURM_JOB_NAME": "bash"}).items():
        monkeypatch.setenv(name, value)
    assert cluster.launched() == {}


@pytest.mark.parametrize(("optimizers", "expected"), [(1, "ddp"), (2, "ddp_find_unused_parameters_true")])
def test_the_strategy_suits_the_optimisers(optimizers: int, expected: str) -> None:
    model = Optimised(optimizers)
    for given in ("auto", "ddp"):
        assert strategy(options(devices=2, strategy=given), model) == expected  # type: ignore[arg-type]
    assert strategy(options(devices=2, strategy="ddp_spawn"), model) == "ddp_spawn"  # type: ignore[arg-type]
    assert strategy(options(devices=1), model) == "auto"  # type: ignore[arg-type]


def test_a_job_is_queued_again_for_its_time_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cluster.requeue(Stopped(signal.SIGUSR1)) == ""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert cluster.requeue(Stopped(signal.SIGTERM)) == ""
    assert "there is no scontrol here" in cluster.requeue(Stopped(signal.SIGUSR1))
    script = tmp_path / "scontrol"
    script.write_text("#!/bin/sh\necho not allowed >&2\nexit 1\n")
    script.chmod(0o755)
    assert cluster.requeue(Stopped(signal.SIGUSR1)) == "; job 7 was not queued again: not allowed"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")  # SLURM would queue all tasks of the array 7
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    script.write_text("#!/bin/sh\necho not $1 $2 >&2\nexit 1\n")
    assert cluster.requeue(Stopped(signal.SIGUSR1)) == "; job 7_3 was not queued again: not requeue 7_3"
    assert not cluster.is_requeued()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    assert cluster.is_requeued()
