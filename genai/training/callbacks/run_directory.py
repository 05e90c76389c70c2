"""The run directory of a training, where every callback finds it."""

from pathlib import Path

import lightning as L


class RunDirectory(L.Callback):
    """Holds the run directory of a training; it does nothing else.

    Args:
        path: the run directory, runs/<experiment>/<run>.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)


def run_dir_of(trainer: L.Trainer) -> Path | None:
    """The directory that the callbacks of `trainer` write into; None where nothing is to be written."""
    directories = [callback.path for callback in trainer.callbacks if isinstance(callback, RunDirectory)]  # type: ignore[attr-defined]
    return directories[0] if directories else None
