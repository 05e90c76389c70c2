"""Two fits cannot write into one run directory; what a dead one left is recognised."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from genai.errors import UserError
from genai.training.locks import RunLock

HOLD = "import sys, time; from pathlib import Path; from genai.training.locks import RunLock\n"
HOLD += "lock = RunLock(Path(sys.argv[1]), sys.argv[2]); lock.acquire(); print('held', flush=True); time.sleep(60)"


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen]:
    """Another process that has the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path), "slurm-1"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_fit_is_refused_and_the_first_is_named(tmp_path: Path, holder: subprocess.Popen) -> None:
    with pytest.raises(
        UserError, match=rf"{tmp_path} is being written by process {holder.pid} on {socket.gethostname()} since"
    ):
        RunLock(tmp_path).acquire()
    with pytest.raises(UserError, match="is being written"):
        RunLock(tmp_path, "slurm-1").acquire()  # the same job on the same host is another process still
    assert json.loads((tmp_path / "lock.json").read_text())["pid"] == holder.pid


def test_the_lock_of_a_killed_fit_is_stale(tmp_path: Path, holder: subprocess.Popen) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    lock = RunLock(tmp_path)
    lock.acquire()
    assert json.loads((tmp_path / "lock.json").read_text())["pid"] == os.getpid()
    lock.release()
    assert not list(tmp_path.iterdir())


def test_a_lock_of_another_host_holds_unless_it_was_the_same_job(tmp_path: Path) -> None:
    (tmp_path / "lock.json").write_text(json.dumps({"host": "elsewhere", "pid": 1, "since": "noon", "job": "slurm-1"}))
    for job in ("", "slurm-2"):
        with pytest.raises(UserError, match=r"process 1 on elsewhere since noon.*delete .*lock.json"):
            RunLock(tmp_path, job).acquire()
    RunLock(tmp_path, "slurm-1").acquire()


def test_a_lock_without_content_is_stale(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / "lock.json").touch()
    RunLock(tmp_path).acquire()
