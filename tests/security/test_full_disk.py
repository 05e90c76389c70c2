"""A disk that is full or read-only: every write is refused in one line, and what was there is as it was."""

import builtins
import contextlib
import errno
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from genai import runs
from genai.cli import classification, main
from genai.cli.verbs import sample
from genai.data import cache
from genai.errors import UserError
from genai.files import locked, write_atomically, write_csv
from genai.images import save_png
from genai.metrics.discriminative import Reliability
from genai.models.ema import PowerAveraged
from genai.runs import export
from genai.training import launch, loggers, record
from genai.training.callbacks import averages, collapse_events
from genai.training.callbacks.checkpoints import AtomicCheckpointIO
from genai.training.callbacks.run_directory import RunDirectory
from genai.training.locks import RunLock

Write = Callable[[Path], object]


def build(writer: cache.Writer) -> None:
    writer.start(3, (1, 8, 8))[:] = 7
    writer.finish(np.zeros(3, np.int64), {"train": 1, "val": 1, "test": 1})


def metrics_csv(folder: Path) -> None:
    logger = loggers.MetricsCSV(folder)
    logger.log_metrics({"loss": 1.0}, step=1)
    logger.write()


def lock(folder: Path) -> None:
    held = RunLock(folder)
    try:
        held.acquire()
    finally:
        held.release()


def snapshot(folder: Path) -> None:
    """What the callback writes of a model with one power-function average."""
    model: Any = torch.nn.ModuleDict({"average": PowerAveraged(torch.nn.Linear(2, 2), 0.1)})
    model.images_seen = 64
    trainer: Any = type("Trainer", (), {"current_epoch": 0, "max_epochs": 1, "is_global_zero": True})
    trainer.callbacks = [RunDirectory(folder)]
    averages.Averages().on_train_epoch_end(trainer, model)


def zoo_entry(folder: Path) -> None:
    class Model:
        images_seen = 7

        def export_state(self) -> dict[str, torch.Tensor]:
            return {"w": torch.zeros(100)}

    run = runs.Run(runs.REPOSITORY / "zoo/digits-diffusion")
    export.write_entry(
        folder / "entry", run.config_bytes(), folder / "entry", Model(), "float32", run.record(), run.scores()["test"]
    )  # type: ignore[arg-type]


ROW = classification.Row("model", 10, 0.5, 0.1, 0.1, 1.0, "", Reliability(np.array([0.5]), np.array([0.5])))
SAMPLES = sample.Samples(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), None, None)
WRITES: dict[str, Write] = {
    "text": lambda folder: write_atomically(folder / "x", "text"),
    "into a new folder": lambda folder: write_atomically(folder / "new/x", "text"),
    "table": lambda folder: write_csv(folder / "x.csv", [["a"], [1]]),
    "PNG": lambda folder: save_png(Image.new("L", (8, 8)), folder / "x.png", {}),
    "run directory": lambda folder: runs.create("e", folder / "runs"),
    "run.json": lambda folder: runs.write_json(folder / "run.json", {"a": 1}),
    "metrics.json": lambda folder: runs.merge_json(folder / "metrics.json", {"a": 1}),
    "config.yaml": lambda folder: record.write_config(folder, "a: 1\n"),
    "metrics.csv": metrics_csv,
    "collapse.csv": lambda folder: collapse_events.write_rows(folder / "samples/x.csv", [{"epoch": 1}]),
    "checkpoint": lambda folder: AtomicCheckpointIO().save_checkpoint({"state_dict": {}}, folder / "last.ckpt"),
    "lock": lock,
    "lock of a file": lambda folder: contextlib.ExitStack().enter_context(locked(folder / "locks/x.lock")),
    "snapshot": snapshot,
    "zoo entry": zoo_entry,
    "predictions": lambda folder: launch.write_predictions(folder, [torch.zeros(2, 3)]),
    "samples, NPZ": lambda folder: sample.write(SAMPLES, folder / "x.npz", None, {}),
    "samples, folder": lambda folder: sample.write(SAMPLES, folder / "samples", None, {}),
    "classify, table": lambda folder: classification.write([ROW], folder / "x.csv"),
    "classify, chart": lambda folder: classification.plot([ROW], folder / "x.png", "images"),
    "cache": lambda folder: cache.open_or_build("toy", cache.Recipe({}, "source", build)),
    "W&B": lambda folder: loggers.wandb_logger(folder, "abc", {}, loggers.WandbOptions()),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place to write into, the cache included."""
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path / "disk/cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "disk").mkdir()
    return tmp_path / "disk"


def contents(folder: Path) -> dict[Path, bytes]:
    """Each file below a folder with its content; empty locks do not count."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith("lock")]
    return {path: path.read_bytes() for path in files}


@pytest.fixture
def refuse(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Have the system refuse to make files and folders in `folder`: a number of errno."""

    def start(number: int) -> None:
        def wrap(call: Callable[..., Any], writes: Callable[..., bool]) -> Callable[..., Any]:
            def wrapped(path: Any, *arguments: Any, **options: Any) -> Any:
                inside = isinstance(path, str | Path) and Path(path).is_relative_to(folder)
                if inside and writes(*arguments, **options):
                    raise OSError(number, os.strerror(number), str(path))
                return call(path, *arguments, **options)

            return wrapped

        def has_mode(mode: str = "r", *_: Any, **__: Any) -> bool:
            return any(letter in mode for letter in "wax+")

        def creates(flags: int, *_: Any, **__: Any) -> bool:
            return bool(flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR))

        monkeypatch.setattr(os, "mkdir", wrap(os.mkdir, lambda *_, **__: True))
        monkeypatch.setattr(os, "open", wrap(os.open, creates))
        opened = wrap(io.open, has_mode)
        monkeypatch.setattr(io, "open", opened)
        monkeypatch.setattr(builtins, "open", opened)

    return start


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES], ids=["read-only", "no permission"])
@pytest.mark.parametrize("name", WRITES)
def test_a_place_that_cannot_be_written(name: str, number: int, folder: Path, refuse: Callable[[int], None]) -> None:
    refuse(number)
    with pytest.raises(UserError) as error:
        WRITES[name](folder)
    assert os.strerror(number) in str(error.value)
    assert "\n" not in str(error.value)
    assert contents(folder) == {}


@pytest.mark.parametrize("name", [name for name in WRITES if name not in ("run directory", "W&B", "lock of a file")])
def test_a_disk_that_is_full_when_the_content_is_flushed(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first write succeeds, the second fails as late as it can; the first stays whole."""

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    WRITES[name](folder)
    shutil.rmtree(folder / "cache/data", ignore_errors=True)  # it would not be built again
    before = contents(folder)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError) as error:
        WRITES[name](folder)
    assert "No space left on device" in str(error.value)
    assert "\n" not in str(error.value)
    assert contents(folder) == before


def test_what_a_library_writes_is_one_line_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def full(arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "logs/events")

    monkeypatch.setattr(sys.modules["genai.cli.main"], "run_verb", full)
    assert main(["runs"]) == 2
    assert capsys.readouterr().err == "genai: logs/events cannot be used (No space left on device): free some space\n"


SMALL_DISK = """
import sys
from pathlib import Path
import numpy as np, torch
from genai.cli import main
from genai.errors import UserError
from genai.data.cache import Recipe, Writer, open_or_build
from genai.training.callbacks.checkpoints import AtomicCheckpointIO
from genai.training.launch import write_predictions
from genai.files import write_atomically
disk = Path(sys.argv[1])

def build(writer):
    writer.start(3_000, (1, 32, 32))[:] = 7
    writer.finish(np.zeros(3_000, np.int64), {"train": 3_000, "val": 0, "test": 0})

last = disk / "checkpoints/last.ckpt"
AtomicCheckpointIO().save_checkpoint({"state_dict": {"w": torch.zeros(100_000)}}, last)
before = last.read_bytes()
writes = {
    "checkpoint": lambda: AtomicCheckpointIO().save_checkpoint({"state_dict": {"w": torch.rand(1_000_000)}}, last),
    "bytes": lambda: write_atomically(disk / "x", bytes(4_000_000)),
    "predictions": lambda: write_predictions(disk, [torch.rand(1_000_000, 2)]),
    "cache": lambda: open_or_build("toy", Recipe({}, "source", build)),
}
for name, write in writes.items():
    try:
        write()
    except UserError as error:
        print(f"{name}: {error}")
    assert last.read_bytes() == before
print(sorted(path.name for path in disk.rglob("*") if path.is_file() and path.suffix != ".lock"))
try:
    (disk / "filler").write_bytes(bytes(10_000_000))
except OSError:
    pass
print("sample", main(["sample", "zoo/mnist-gan", "--num", "4", "--out", str(disk / "x.png")]))
"""


def small_disk(disk: Path) -> list[str]:
    """The command that runs python with a disk of 2 MB at `disk`."""
    mount = f'mount -t tmpfs -o size=2m none {disk} && exec {sys.executable} -c "$CODE" {disk}'
    return ["unshare", "--map-root-user", "--mount", "sh", "-c", mount]


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A folder on which a disk of 2 MB can be mounted."""
    (tmp_path / "disk").mkdir()
    command = [*small_disk(tmp_path / "disk")[:-1], f"mount -t tmpfs -o size=2m none {tmp_path / 'disk'}"]
    try:
        can_mount = subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        can_mount = False
    if not can_mount:
        pytest.skip("this machine lets no user mount a disk (unshare --map-root-user --mount)")
    return tmp_path / "disk"


@pytest.mark.slow
@pytest.mark.long
def test_a_small_disk(disk: Path) -> None:
    environment = {**os.environ, "CODE": SMALL_DISK, "GENAI_CACHE": str(disk / "cache"), "PYTHONPATH": str(runs.REPOSITORY)}
    result = subprocess.run(small_disk(disk), capture_output=True, text=True, env=environment, cwd=runs.REPOSITORY)
    assert result.returncode == 0, result.stderr
    *lines, files, status = result.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["checkpoint", "bytes", "predictions", "cache"]
    assert all("No space left on device" in line for line in lines)
    assert files == "['last.ckpt']"
    assert status == "sample 2"
    assert "No space left on device" in result.stderr
    assert "Traceback" not in result.stderr
