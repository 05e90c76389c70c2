"""The run directory of a training, for every callback."""

from collections.abc import Sequence
from pathlib import Path

import lightning as L


class RunDirectory(L.Callback):
    """Holds the run directory of a training; it does nothing else.

    Args:
        path: the run directory, runs/<experiment>/<run>.
        overrides: options of the model that differ from the run's config, each as `--model.key=value`.
    """

    def __init__(self, path: str | Path, overrides: Sequence[str] = ()) -> None:
        self.path = Path(path)
        self.overrides = tuple(overrides)


def run_dir_of(trainer: L.Trainer) -> Path | None:
    """The directory that the callbacks of `trainer` write into; None if nothing is to be written."""
    found = find(trainer)
    return found.path if found else None


def overrides_of(trainer: L.Trainer) -> tuple[str, ...]:
    """The options of the model that differ from the config of its run, each as `--model.key=value`."""
    found = find(trainer)
    return found.overrides if found else ()


def find(trainer: L.Trainer) -> RunDirectory | None:
    """The first `RunDirectory` among the callbacks."""
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return next((callback for callback in callbacks if isinstance(callback, RunDirectory)), None)
