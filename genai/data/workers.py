"""Processes that load batches: whether their shared memory suffices, and how they take signals."""

import os
import signal
from types import FrameType
from typing import Any

import torch

from genai.errors import UserError

SHARED_MEMORY = "/dev/shm"
BATCHES_AHEAD = 2  # of each process
WORKERS_PER_CORE = 16  # at most
TIMEOUT = 120.0  # seconds without a batch, after which a loader gives up: a process that found no memory sends nothing
GRACE = 30  # seconds that a process goes on after SIGTERM, so that the fit it loads for reaches a safe point


def loader_settings(batch_size: int, num_workers: int) -> dict[str, Any]:
    """The arguments of a DataLoader that images and texts share."""
    settings: dict[str, Any] = {"batch_size": batch_size, "num_workers": num_workers, "pin_memory": torch.cuda.is_available()}
    if num_workers:
        settings |= {"persistent_workers": True, "worker_init_fn": prepare_worker, "timeout": TIMEOUT}
    return settings


def check_shared_memory(num_workers: int, batch_bytes: int) -> None:
    """Raise UserError for far more processes than cores, or if the batches that they load ahead do not fit into the shared
    memory.
    """
    cores = os.cpu_count() or 1
    if num_workers > WORKERS_PER_CORE * cores:
        raise UserError(f"num_workers {num_workers} is out of range for {cores} cores: use --data.init_args.num_workers 0")
    if not num_workers or not os.path.isdir(SHARED_MEMORY):
        return
    needed, status = 2 * num_workers * BATCHES_AHEAD * batch_bytes, os.statvfs(SHARED_MEMORY)  # train and val at once
    free = status.f_bavail * status.f_frsize
    if needed > free:
        raise UserError(
            f"num_workers {num_workers} needs {needed / 1e3:,.0f} kB of shared memory, and {SHARED_MEMORY} has "
            f"{free / 1e3:,.0f} kB: use --data.init_args.num_workers 0, which is as fast, or enlarge it (docker run --shm-size)"
        )


def prepare_worker(worker_id: int) -> None:
    """Let the main process decide what a signal to all processes does; after SIGTERM this one ends within GRACE seconds."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end_later)
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def end_later(number: int, frame: FrameType | None) -> None:
    """The handler of SIGTERM: the system ends the process when the time is over."""
    signal.alarm(GRACE)
