"""The cache: written once, whole or not at all, and rebuilt when its source changes."""

import errno
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genai.data.cache import CacheEntry, Recipe, Writer, decoded_folder, identity, key_of
from genai.data.cache import open_or_build as build_entry
from genai.errors import UserError

OPTIONS = {"size": 2}


def open_or_build(name: str, options: dict[str, Any], source: Any, build: Callable[[Writer], None]) -> CacheEntry:
    return build_entry(name, Recipe(options, source, build))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "data"


class Build:
    """Fills a cache with `value` and counts its calls."""

    def __init__(self, value: int = 1) -> None:
        self.value = value
        self.calls = 0

    def __call__(self, writer: Writer) -> None:
        self.calls += 1
        writer.start(6, (1, 2, 2))[:5] = self.value
        writer.skip("broken.jpg: no picture")
        writer.finish(np.arange(5), {"train": 3, "val": 1, "test": 1})


def test_built_once_then_opened() -> None:
    build = Build(7)
    for _ in range(2):
        entry = open_or_build("toy", OPTIONS, "source", build)
    assert build.calls == 1
    assert isinstance(entry.images, np.memmap)
    assert (entry.images[:5] == 7).all()
    assert entry.labels[entry.rows("val")].tolist() == [3]
    assert entry.rows("test") == slice(4, 5)
    assert entry.meta["skipped"] == ["broken.jpg: no picture"]


def test_another_option_is_another_entry() -> None:
    first = open_or_build("toy", {"size": 2}, "source", Build(1))
    second = open_or_build("toy", {"size": 3}, "source", Build(2))
    assert (first.images[0, 0, 0, 0], second.images[0, 0, 0, 0]) == (1, 2)
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})


def test_a_changed_source_is_noticed(tmp_path: Path) -> None:
    source = tmp_path / "pictures.zip"
    values = []
    for value, content in enumerate(("one", "one", "another")):
        if not source.exists() or source.read_text() != content:
            source.write_text(content)
        values.append(open_or_build("toy", OPTIONS, identity(source), Build(value)).images[0, 0, 0, 0])
    assert values == [0, 0, 2]


def test_the_source_may_move(tmp_path: Path) -> None:
    source = tmp_path / "pictures.zip"
    source.write_text("one")
    before = identity(source)
    (tmp_path / "elsewhere").mkdir()
    assert identity(source.rename(tmp_path / "elsewhere" / "pictures.zip")) == before


def test_a_build_that_fails_leaves_nothing(own_cache: Path) -> None:
    def fail(writer: Writer) -> None:
        writer.start(6, (1, 2, 2))
        raise UserError("no pictures")

    with pytest.raises(UserError, match="no pictures"):
        open_or_build("toy", OPTIONS, "source", fail)
    assert [path for path in own_cache.iterdir() if path.is_dir()] == []


def test_what_a_killed_build_left_is_replaced(own_cache: Path) -> None:
    leftover = own_cache / f".toy-{key_of(OPTIONS)}.0123456789abcdef.tmp"
    leftover.mkdir(parents=True)
    (leftover / "images.npy").write_bytes(b"half")
    open_or_build("toy", OPTIONS, "source", Build())
    assert not leftover.exists()


def test_a_damaged_entry_is_rebuilt(own_cache: Path) -> None:
    open_or_build("toy", OPTIONS, "source", Build(1))
    (own_cache / f"toy-{key_of(OPTIONS)}" / "meta.json").write_text("{")
    assert open_or_build("toy", OPTIONS, "source", Build(2)).images[0, 0, 0, 0] == 2


def build_slowly(log: Path) -> None:
    def build(writer: Writer) -> None:
        with log.open("a") as file:
            file.write("built\n")
        time.sleep(0.3)
        Build(3)(writer)

    assert (open_or_build("toy", OPTIONS, "source", build).images[:5] == 3).all()


def test_two_processes_build_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=build_slowly, args=(tmp_path / "log",)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=30)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "built\n"


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="set GENAI_CACHE") as caught:
        open_or_build("toy", OPTIONS, "source", Build())
    assert str(decoded_folder()) in str(caught.value)


def test_opening_never_writes_the_file(own_cache: Path) -> None:
    entry: Any = open_or_build("toy", OPTIONS, "source", Build(1))
    entry.images[:] = 9
    assert (open_or_build("toy", OPTIONS, "source", Build(1)).images[:5] == 1).all()


def test_a_full_disk_is_one_line_and_leaves_nothing(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match=r"No space left on device.*GENAI_CACHE") as caught:
        open_or_build("toy", OPTIONS, "source", Build())
    assert "\n" not in str(caught.value)
    assert [path for path in own_cache.iterdir() if path.is_dir()] == []


def test_the_space_of_the_images_is_reserved(tmp_path: Path) -> None:
    Writer(tmp_path, "toy").start(100, (3, 64, 64))
    assert (tmp_path / "images.npy").stat().st_blocks * 512 >= 100 * 3 * 64 * 64
