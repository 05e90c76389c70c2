"""One fit at a time in a run directory."""

import contextlib
import json
import os
import re
import socket
import time
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from genai.errors import DamagedFileError, UserError, WriteError
from genai.files import write_atomically, write_error
from genai.runs.files import read_object


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
            UserError: another fit has it, or had it on another host; or its files cannot be written.
        """
        try:
            self.lock.acquire()
        except Timeout:
            who = describe(self.read_info())
            raise UserError(f"{self.run_dir} is being written by {who}: wait, or start another run") from None
        except OSError as error:
            if Path(self.lock.lock_file).is_symlink():  # it is not followed
                raise UserError(f"{self.lock.lock_file} cannot be locked ({error.strerror}): remove it") from None
            raise write_error(self.lock.lock_file, error) from None
        holder = self.read_info()
        is_ours = bool(self.job) and holder.get("job") == self.job
        if holder and holder["host"] != socket.gethostname() and not is_ours:
            self.lock.release()
            raise UserError(
                f"{self.run_dir} was being written by {describe(holder)}, and this host cannot see whether it still is: "
                f"if it has ended, delete {self.info}"
            )
        entry = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S"), "job": self.job}
        try:
            write_atomically(self.info, json.dumps(entry) + "\n")
        except WriteError:
            self.release()
            raise
        remove_leftovers(self.run_dir / "checkpoints")

    def release(self) -> None:
        """Release the lock and remove its files."""
        if self.lock.is_locked:
            with contextlib.suppress(OSError):  # of a disk that is read-only by now
                self.info.unlink(missing_ok=True)
                Path(self.lock.lock_file).unlink(missing_ok=True)
            self.lock.release()

    def read_info(self) -> dict[str, Any]:
        """The process that holds the lock or did not release it; empty if there is none or the file is damaged."""
        try:
            info = read_object(self.info)
        except DamagedFileError:
            return {}
        return info if {"host", "pid", "since"} <= info.keys() else {}


def describe(info: dict[str, Any]) -> str:
    """The holder of a lock, for a message."""
    return f"process {info['pid']} on {info['host']} since {info['since']}" if info else "another process"


def remove_leftovers(folder: Path) -> None:
    """Delete the parts of last.ckpt and best.ckpt that a killed fit was writing; whoever calls it holds the run's lock."""
    for path in folder.glob(".*.ckpt.*.tmp"):
        if re.fullmatch(r"\.(last|best|previous)\.ckpt\.[0-9a-f]{16}\.tmp", path.name):
            with contextlib.suppress(OSError):
                path.unlink()
