"""One fit at a time in a run directory."""

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from genai.errors import UserError
from genai.files import write_atomically


class RunLock:
    """The lock of the fit that writes into RUN: RUN/lock, and RUN/lock.json, which names its process, host and cluster job.

    The system frees RUN/lock when the process ends, however that happens, so no lock of this host is stale. Where another host
    left RUN/lock.json, only that file can be read; the same job of the cluster, started again, may take the lock over.

    Args:
        run_dir: an existing run directory.
        job: name of the cluster's job; empty outside of one.
    """

    def __init__(self, run_dir: Path, job: str = "") -> None:
        self.run_dir = run_dir
        self.job = job
        self.lock = FileLock(run_dir / "lock", timeout=0)
        self.info = run_dir / "lock.json"

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            UserError: another fit has it, or had it on another host.
        """
        try:
            self.lock.acquire()
        except Timeout:
            who = describe(self.read_info())
            raise UserError(f"{self.run_dir} is being written by {who}: wait, or start another run") from None
        except OSError as error:  # a link in its place is not followed
            raise UserError(f"{self.lock.lock_file} cannot be locked ({error.strerror}): remove it") from None
        holder = self.read_info()
        is_ours = bool(self.job) and holder.get("job") == self.job
        if holder and holder["host"] != socket.gethostname() and not is_ours:
            self.lock.release()
            raise UserError(
                f"{self.run_dir} was being written by {describe(holder)}, and this host cannot see whether it still is: "
                f"if it has ended, delete {self.info}"
            )
        entry = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S"), "job": self.job}
        write_atomically(self.info, json.dumps(entry) + "\n")

    def release(self) -> None:
        """Release the lock and remove its files."""
        if self.lock.is_locked:
            self.info.unlink(missing_ok=True)
            Path(self.lock.lock_file).unlink(missing_ok=True)
            self.lock.release()

    def read_info(self) -> dict[str, Any]:
        """The process that holds the lock or did not release it; empty if there is none or the file is incomplete."""
        try:
            info: dict[str, Any] = json.loads(self.info.read_text())
        except (OSError, json.JSONDecodeError):
            return {}
        return info


def describe(info: dict[str, Any]) -> str:
    """The holder of a lock, for a message."""
    return "process {pid} on {host} since {since}".format(**info) if info else "another process"
