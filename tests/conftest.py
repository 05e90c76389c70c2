"""Shared by all tests: one thread, a temporary cache, no tracker, no network."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("WANDB_SILENT", "true")

import lightning  # noqa: F401  (its log handler keeps the stderr of its first import, which should not be one test's)
import torch

torch.set_num_threads(1)

LONGEST = (  # most seconds first: a worker that took one of these last would let the other wait
    "distributed/test_equal.py",
    "chaos/test_killed.py",
    "test_configs.py",
    "training/test_preemption.py",
    "training/test_early_errors.py",
    "training/test_training_options.py",
    "cli/test_editing.py",
    "cli/test_cli.py",
    "models/test_vqvae.py",
    "training/test_lightning.py",
    "docs/test_extending.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files; the tests of a file keep their order."""
    position = {Path(__file__).parent / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: position.get(item.path, len(LONGEST)))


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that the tests share and nobody else uses."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["GENAI_CACHE"] = str(folder)
    os.environ["XDG_CONFIG_HOME"] = str(folder / "config")  # the key that signs runs
    return folder


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory for commands that write runs/."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
