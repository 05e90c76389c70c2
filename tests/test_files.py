"""Files are written whole or not at all."""

import contextlib
import csv
import errno
import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from genai.errors import UserError, WriteError
from genai.files import NewPath, open_atomically, write_atomically, write_csv


def test_the_content_arrives_and_nothing_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.json"
    write_atomically(path, b"one")
    write_atomically(path, "zwei é")
    assert path.read_bytes() == "zwei é".encode()
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail() -> None:
        with open_atomically(path) as file:
            file.write(b"half")
            assert path.read_text() == "old"
            raise OSError("disk full")

    with pytest.raises(WriteError, match="disk full"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").write_bytes(b"")
    write_atomically(tmp_path / "ours", b"")
    modes = [stat.S_IMODE(os.stat(tmp_path / name).st_mode) for name in ("usual", "ours")]
    assert modes[0] == modes[1]


def write_many(path: Path, letter: str) -> None:
    for _ in range(50):
        write_atomically(path, letter * 100_000)


def test_writers_at_once_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "file"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=write_many, args=(path, letter)) for letter in "ab"]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        if path.exists():
            assert len(set(path.read_text())) == 1
            assert path.stat().st_size == 100_000
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("has_links", [True, False])
def test_a_new_path_is_not_overwritten(has_links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even a file that another process writes after the path was checked."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if not has_links:
        monkeypatch.setattr(os, "link", refuse)
    path = NewPath(tmp_path / "new" / "file")
    write_atomically(path / "inside", "first")
    assert (path / "inside").read_text() == "first"
    with contextlib.ExitStack() as writing:
        writing.enter_context(open_atomically(path.with_name("other"))).write(b"second")
        path.with_name("other").write_text("first")
        with pytest.raises(UserError, match="was written meanwhile"):
            writing.close()
    assert path.with_name("other").read_text() == "first"
    write_atomically(path.with_name("third"), "third")
    assert sorted(child.name for child in path.parent.iterdir()) == ["file", "other", "third"]


def test_a_cell_is_no_formula(tmp_path: Path) -> None:
    cells = ['=HYPERLINK("x")', "+1+cmd", "-rf", "@x", "\tx", "-", "-1.5", "+3", "-inf", "a=b", "cat", -1.5, None]
    write_csv(tmp_path / "x.csv", [["cell"], *([cell] for cell in cells)])
    with (tmp_path / "x.csv").open(newline="") as file:
        _, *rows = [row[0] for row in csv.reader(file)]
    assert rows[:5] == [f"'{cell}" for cell in cells[:5]]
    assert rows[5:] == ["-", "-1.5", "+3", "-inf", "a=b", "cat", "-1.5", ""]
