"""Shared by all tests: one thread, a temporary cache, no tracker, no network."""

import ipaddress
import os
import socket
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

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


attempts: list[str] = []  # connections and look-ups of this test that would leave this machine
OWN_NAMES = ("localhost", socket.gethostname(), "")


def is_outside(host: Any) -> bool:
    """Whether a host is not this machine."""
    name = host.decode() if isinstance(host, bytes) else host
    if name is None or name in OWN_NAMES:
        return False
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return True
    return not (address.is_loopback or address.is_unspecified)


def refuse_network(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: raise OSError, as without a network, where the process looks up or connects to another machine."""
    if event not in ("socket.getaddrinfo", "socket.gethostbyname", "socket.connect", "socket.sendto"):
        return
    target = arguments[0] if event.startswith("socket.get") else arguments[1]
    host = target[0] if isinstance(target, tuple) else target if event.startswith("socket.get") else None  # None: a UNIX socket
    if is_outside(host):
        attempts.append(f"{event} {host}")
        raise OSError(f"tests use no network: {event} {host}")


sys.addaudithook(refuse_network)


@pytest.fixture(autouse=True)
def no_network(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that tried to leave this machine, unless it is marked `offline`: it tests what happens without a network."""
    attempts.clear()
    yield
    if request.node.get_closest_marker("offline") is None:
        assert attempts == []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Skip a test that failed since it needs the real MNIST, which would have been downloaded."""
    report = yield
    has_mnist = any((Path(os.environ.get("GENAI_DATA", "data")) / "MNIST/raw").glob("*"))  # a failed download leaves the folder
    if report.failed and not has_mnist and any("yann.lecun.com" in attempt for attempt in attempts):
        report.outcome = "skipped"
        report.longrepr = (str(item.path), 0, "Skipped: it needs MNIST, and no MNIST/raw is in $GENAI_DATA")
    return report


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
