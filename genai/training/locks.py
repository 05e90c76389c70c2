"""One fit at a time in a run directory."""

import fcntl
import json
import os
import socket
import time
from pathlib import Path
from typing import IO, Any

from genai.errors import UserError


class RunLock:
    """RUN/lock, held by the fit that writes into RUN; it names the process, its host and the cluster's job.

    The system frees it when the process dies, however that happens, so on one host no lock is stale. Of another host only the
    file tells; the same job of the cluster, started again, may take it over.

    Args:
        run_dir: an existing run directory.
        job: name of the cluster's job; empty outside of one.
    """

    def __init__(self, run_dir: Path, job: str = "") -> None:
        self.path = run_dir / "lock"
        self.job = job
        self.file: IO[str] | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            UserError: another fit has it, or had it on another host.
        """
        file = self.path.open("a+")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"{self.path.parent} is being written by {self.holder(file)}: wait, or start another run") from None
        if self.was_removed(file):
            file.close()
            return self.acquire()
        self.check_other_host(file)
        file.truncate(0)
        entry = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S"), "job": self.job}
        file.write(json.dumps(entry) + "\n")
        file.flush()
        self.file = file

    def release(self) -> None:
        """Give it back; the file goes."""
        if self.file is not None:
            self.path.unlink(missing_ok=True)
            self.file.close()
            self.file = None

    def was_removed(self, file: IO[str]) -> bool:
        """Whether its holder removed the file between our opening and locking it."""
        return not self.path.exists() or self.path.stat().st_ino != os.fstat(file.fileno()).st_ino

    def check_other_host(self, file: IO[str]) -> None:
        """Raise UserError for a lock left by another host, unless by this very job."""
        entry = content(file)
        is_ours = bool(self.job) and entry.get("job") == self.job
        if entry and entry["host"] != socket.gethostname() and not is_ours:
            raise UserError(
                f"{self.path.parent} was being written by {self.holder(file)}, which cannot be asked from here: "
                f"if it has ended, delete {self.path}"
            )

    def holder(self, file: IO[str]) -> str:
        """Who the file names."""
        entry = content(file)
        return "process {pid} on {host} since {since}".format(**entry) if entry else "another process"


def content(file: IO[str]) -> dict[str, Any]:
    """What a lock file says; nothing where its writer died early."""
    file.seek(0)
    try:
        entry: dict[str, Any] = json.loads(file.read())
    except json.JSONDecodeError:
        return {}
    return entry
