"""Fits in separate processes that start at once: forks of a process that has imported everything and trained nothing."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PATIENCE = 600  # seconds; machines are shared


class Forks:
    """The process that forks; a context manager."""

    def __enter__(self) -> "Forks":
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.forks"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.communicate()

    def ask(self, **question: object) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(question), file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())

    def start(self, arguments: list[str], folder: Path, **environment: str) -> "Child":
        """`genai *arguments` in `folder`, with more environment variables."""
        output = folder / f"output-{time.monotonic_ns()}.txt"
        pid = self.ask(arguments=arguments, folder=str(folder), environment=environment, output=str(output))
        return Child(self, pid, output)


@dataclass
class Child:
    """A fit."""

    forks: Forks
    pid: int
    output: Path

    def kill(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Its exit status; minus the signal that ended it."""
        return self.forks.ask(wait=self.pid)

    def is_running(self) -> bool:
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def run_child(job: dict) -> None:
    """In the fork: be the program."""
    from lightning.pytorch.utilities import rank_zero_only

    from genai.cli import main

    descriptor = os.open(job["output"], os.O_WRONLY | os.O_CREAT)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.chdir(job["folder"])
    os.environ.update(job["environment"])
    if "LARGEST_FILE" in job["environment"]:  # a write of more bytes fails, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(os.environ["LARGEST_FILE"]),) * 2)
    rank_zero_only.rank = int(os.environ.get("SLURM_PROCID", 0))  # read from the environment at import otherwise
    sys.argv = ["genai", *job["arguments"]]
    status = 1
    try:
        status = main()
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def wait_for(pid: int) -> int:
    """The exit status of a fork; one that hangs is killed."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return 1000


def serve() -> None:
    """Answer the questions on stdin, one a line."""
    import torch

    import genai.training.launch  # noqa: F401

    torch.set_num_threads(1)
    for line in sys.stdin:
        job = json.loads(line)
        answer = wait_for(job["wait"]) if "wait" in job else os.fork()
        if answer == 0 and "wait" not in job:
            run_child(job)
        print(answer, flush=True)


if __name__ == "__main__":
    serve()
