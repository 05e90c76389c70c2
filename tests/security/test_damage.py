"""Damaged files: one flipped bit is refused, and one file of one run does not stop the others. All in one line."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import genai
from genai import runs
from genai.cli import main
from genai.cli.verbs.average import snapshots
from genai.errors import DamagedFileError, UserError
from genai.metrics.features import trained
from genai.report.leaderboard import entries
from genai.runs import REPOSITORY, Run
from genai.runs.loading import import_weights, read_checkpoint
from genai.training.arguments import check_config, run_of_job
from genai.training.callbacks.checkpoints import AtomicCheckpointIO
from genai.training.callbacks.collapse_events import read_rows
from genai.training.locks import RunLock
from genai.training.loggers import MetricsCSV

ENTRY = REPOSITORY / "zoo/digits-diffusion"


def flipped(content: bytes, positions: range) -> Iterator[bytes]:
    """`content` with one bit flipped, at each of the positions."""
    for i in positions:
        yield content[:i] + bytes([content[i] ^ 1 << i % 8]) + content[i + 1 :]


def same(one: Any, other: Any) -> bool:
    """Whether two checkpoints are equal, to the bit."""
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return type(one) is type(other) and one == other


def test_one_flipped_bit_of_a_checkpoint_is_refused_or_in_padding(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    state = {f"layer.{i}": torch.randn(40, generator=torch.Generator().manual_seed(i)) for i in range(4)}
    AtomicCheckpointIO().save_checkpoint({"state_dict": state, "epoch": 3, "names": "abc"}, path)
    content, whole = path.read_bytes(), read_checkpoint(path)
    num_refused = 0
    for damaged in flipped(content, range(0, len(content), 13)):
        path.write_bytes(damaged)
        try:
            found = read_checkpoint(path)
        except DamagedFileError:
            num_refused += 1
        else:
            assert same(found, whole)
    assert num_refused > len(content) / 13 / 3  # the rest is padding and dates: a third of a checkpoint of 3 KB is content


@pytest.mark.parametrize("name", ["last", "best", "previous"])
def test_a_flipped_bit_of_the_weights_is_refused_and_a_whole_checkpoint_named(name: str, tmp_path: Path) -> None:
    weights = torch.full((10_000,), 0.5)
    for stem in ("last", "best", "previous"):
        AtomicCheckpointIO().save_checkpoint({"state_dict": {"w": weights}}, tmp_path / f"{stem}.ckpt")
    path = tmp_path / f"{name}.ckpt"
    content = path.read_bytes()
    start = content.index(weights.numpy().tobytes())
    others = {"last": "previous", "best": "previous", "previous": "last"}
    for damaged in [*flipped(content, range(start, start + 40_000, 800)), content[: start + 9], content[:-1], b""]:
        path.write_bytes(damaged)
        with pytest.raises(DamagedFileError, match=rf"--checkpoint {others[name]}$"):
            read_checkpoint(path)


def test_one_flipped_bit_of_a_zoo_entry_is_refused(tmp_path: Path) -> None:
    entry = Run(shutil.copytree(ENTRY, tmp_path / "entry"))
    genai.load(entry)
    content = entry.weights.read_bytes()
    model: Any = None  # is not reached
    for damaged in flipped(content, range(0, len(content), len(content) // 50)):
        entry.weights.write_bytes(damaged)
        with pytest.raises(DamagedFileError, match="does not fit its weights_sha256"):
            import_weights(model, entry)


def test_each_zoo_entry_has_the_digest_of_its_weights() -> None:
    for entry in (REPOSITORY / "zoo").iterdir():
        assert len(Run(entry).record()["weights_sha256"]) == 64


def test_one_flipped_bit_of_a_feature_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "digits.safetensors"
    for file in (path, path.with_suffix(".md")):
        shutil.copy(trained.WEIGHTS / file.name, file)
    trained.load(str(path), path)
    content = path.read_bytes()
    for damaged in flipped(content, range(0, len(content), len(content) // 50)):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"digits\.safetensors (does not fit the sha256|is damaged|is not)"):
            trained.load(str(path), path)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 200, b"\x00" * 8, (10**18).to_bytes(8, "little") + b"{}"])
def test_safetensors_that_are_none(content: bytes, tmp_path: Path) -> None:
    entry = Run(shutil.copytree(ENTRY, tmp_path / "entry"))
    record = json.loads((entry.path / "run.json").read_text())
    del record["weights_sha256"]  # so that the digest does not refuse it first
    (entry.path / "run.json").write_text(json.dumps(record))
    entry.weights.write_bytes(content)
    (tmp_path / "averages").mkdir()
    (tmp_path / "averages/0.05-100.safetensors").write_bytes(content)
    path = tmp_path / "network.safetensors"
    path.write_bytes(content)
    for read in (lambda: genai.load(entry), lambda: snapshots(Run(tmp_path)), lambda: trained.load(str(path), path)):
        with pytest.raises(UserError) as error:
            read()
        assert "\n" not in str(error.value)


# -- one damaged file among many runs ----------------------------------------------------------------------------------------

JSON = {
    "empty": b"",
    "torn": b'{"test": {"scores": {"fid": 3.0',
    "list": b"[]",
    "number": b"3",
    "null": b"null",
    "binary": bytes(range(256)),
    "deep list": b"[" * 200_000,
    "deep object": b'{"a":' * 200_000,
    "long number": b"9" * 5_000,
    "100 MB": b'{"a": "' + b"x" * 100_000_000 + b'"}',
}
WRONG_METRICS = {
    "split is a list": {"test": []},
    "scores are a list": {"test": {"scores": [1], "floor": {}, "images_seen": 1}},
    "score is a str": {"test": {"scores": {"fid": "3"}, "floor": {}, "images_seen": 1}},
    "score is a bool": {"test": {"scores": {"fid": True}, "floor": {}, "images_seen": 1}},
    "images_seen is a str": {"test": {"scores": {}, "floor": {}, "images_seen": "1"}},
    "nothing in it": {"test": {}},
}


@pytest.fixture
def two_runs(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Copies of a zoo entry as the runs digits/damaged and digits/whole."""
    monkeypatch.setenv("GENAI_RUNS", str(workspace / "runs"))
    return [Path(shutil.copytree(ENTRY, workspace / f"runs/digits/{name}")) for name in ("damaged", "whole")]


def lines_of(capsys: pytest.CaptureFixture[str]) -> tuple[str, list[str]]:
    """What was printed: stdout, and the lines of stderr."""
    output = capsys.readouterr()
    return output.out, output.err.splitlines()


@pytest.mark.parametrize("content", [*JSON.values(), *WRONG_METRICS.values()], ids=[*JSON, *WRONG_METRICS])
def test_damaged_metrics_are_named_and_the_other_runs_listed(
    content: bytes | dict[str, Any], two_runs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = two_runs[0] / "metrics.json"
    damaged.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    assert main(["runs", "digits"]) == 0
    out, errors = lines_of(capsys)
    assert "digits/damaged" in out
    assert "digits/whole" in out
    assert len(errors) == 1
    assert str(damaged) in errors[0]
    found = [entry.run.path for entry in entries(two_runs[0].parent)]
    assert found == [two_runs[1]]
    assert str(two_runs[0]) in lines_of(capsys)[1][0]


def test_scores_that_are_no_numbers_are_printed(two_runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    """NaN is not JSON, but Python writes it, and a model can diverge."""
    path = two_runs[0] / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["test"]["scores"] = {name: float("nan") for name in metrics["test"]["scores"]}
    path.write_text(json.dumps(metrics))
    assert main(["runs", "digits"]) == 0
    out, errors = lines_of(capsys)
    assert "nan" in out
    assert errors == []


def test_compare_goes_on_with_the_runs_that_can_be_read(two_runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    damaged = [two_runs[0] / "metrics.json", Path(shutil.copytree(ENTRY, two_runs[0].with_name("third"))) / "config.yaml"]
    for path in damaged:
        path.write_bytes(b"")
    assert main(["compare", *(str(path.parent) for path in damaged), str(two_runs[1]), "--num", "1", "--out", "x.png"]) == 0
    out, errors = lines_of(capsys)
    assert Path("x.png").is_file()
    assert "FID" in out
    assert len(errors) == 2
    assert all(str(path) in "".join(errors) for path in damaged)
    assert main(["compare", *(str(path.parent) for path in damaged), "--csv"]) == 2
    assert "none of the runs can be read" in lines_of(capsys)[1][-1]


@pytest.mark.parametrize("content", JSON.values(), ids=JSON)
def test_a_requeued_job_finds_its_run_among_damaged_ones(
    content: bytes, two_runs: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("genai.training.arguments.cluster.job", lambda: "slurm-1")
    (two_runs[0] / "run.json").write_bytes(content)
    newest = {"job": "slurm-1", "command": "genai fit", "started": "2100-01-01T00:00:00+0000"}
    runs.merge_json(two_runs[1] / "run.json", newest)
    found = run_of_job("genai fit")
    assert found is not None
    assert found.path == two_runs[1]
    assert [line for line in lines_of(capsys)[1] if str(two_runs[0]) in line]


YAML = {
    "empty": "",
    "torn": "model: {class_path: genai.models",
    "list": "- a\n- b\n",
    "wrong types": "model: 3\ndata: [1]\n",
    "twice": yaml.safe_dump({"model": {}, "data": {}}) + "model: {}\n",
    "twice inside": "model:\n  class_path: GAN\n  class_path: VAE\ndata: {}\n",
    "itself": "model: &m {init_args: *m}\ndata: {}\n",
    "laughs": "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)),
    "deep": "model: " + "[" * 20_000,
    "large": "model: '" + "x" * 5_000_000 + "'",
}


@pytest.mark.parametrize("text", YAML.values(), ids=YAML)
def test_a_damaged_config_is_one_line(text: str, two_runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    (two_runs[0] / "config.yaml").write_text(text)
    for verb in ("sample", "test"):
        assert main([verb, str(two_runs[0])]) == 2
        errors = lines_of(capsys)[1]
        assert len(errors) == 1
        assert "config.yaml" in errors[0]
    assert main(["runs", "digits"]) == 0
    if text not in (YAML["wrong types"],):  # what an option may be is the parser's to say
        with pytest.raises(UserError) as error:
            check_config(str(two_runs[0] / "config.yaml"))
        assert "\n" not in str(error.value)


def test_files_of_a_run_that_are_no_files(two_runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("metrics.json", "metrics.csv", "lock.json"):
        (two_runs[0] / name).unlink(missing_ok=True)
        os.mkfifo(two_runs[0] / name)
    assert main(["runs", "digits"]) == 0
    assert RunLock(two_runs[0]).read_info() == {}
    assert MetricsCSV(two_runs[0]).rows == {}
    (two_runs[0] / "run.json").unlink()
    (two_runs[0] / "run.json").symlink_to("/dev/zero")
    assert main(["runs", "digits"]) == 0
    assert "digits/damaged" not in lines_of(capsys)[0].splitlines()[-3:]


@pytest.mark.parametrize("content", [*JSON.values(), b'{"host": 3}', b'{"host": "x", "job": []}'], ids=[*JSON, "few", "wrong"])
def test_a_damaged_lock_does_not_hold(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "lock").write_bytes(content[:100])
    (tmp_path / "lock.json").write_bytes(content)
    lock = RunLock(tmp_path, "slurm-1")
    lock.acquire()
    assert lock.read_info()["job"] == "slurm-1"
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_fit_was_writing_is_deleted_by_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    kept = ["last.ckpt", ".mine.ckpt.0123456789abcdef.tmp", ".last.ckpt.mine.tmp"]
    for name in [*kept, ".last.ckpt.0123456789abcdef.tmp", ".best.ckpt.0123456789abcdef.tmp"]:
        (folder / name).touch()
    RunLock(tmp_path).acquire()
    assert sorted(path.name for path in folder.iterdir()) == sorted(kept)


CSV = {
    "torn": b"images_seen,train/loss\n64,1.0\n128,0.5\n192,0.",
    "torn within a cell": b"images_seen,train/loss\n64,1.0\n128,0.5\n19",
    "too few cells": b"images_seen,train/loss\n64,1.0\n128,0.5\n192\n",
    "too many cells": b"images_seen,train/loss\n64,1.0\n128,0.5\n192,1,2\n",
    "no number": b"images_seen,train/loss\n64,1.0\n128,0.5\nabc,1.0\n",
    "zeros": b"images_seen,train/loss\n64,1.0\n128,0.5\n" + bytes(50),
    "not UTF-8": b"images_seen,train/loss\n64,1.0\n128,0.5\n\xff\xfe\n",
}


@pytest.mark.parametrize("content", CSV.values(), ids=CSV)
def test_a_torn_table_goes_on_with_its_whole_rows(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(content)
    logger = MetricsCSV(tmp_path)
    assert path.read_bytes() == content
    [line] = lines_of(capsys)[1]
    assert f"{path} has 1 damaged line" in line
    logger.log_metrics({"train/loss": 0.25}, step=192)
    logger.write()
    assert path.read_text().split() == ["images_seen,train/loss", "64,1.0", "128,0.5", "192,0.25"]
    assert (tmp_path / "metrics.damaged.csv").read_bytes() == content


@pytest.mark.parametrize(
    "content",
    [b"", bytes(100), b"a,b\n1,2\n", bytes(range(256)) * 10, b"x" * 1_000_000],
    ids=["empty", "zeros", "other columns", "binary", "one line"],
)
def test_a_table_of_another_kind_is_kept(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_bytes(content)
    logger = MetricsCSV(tmp_path)
    assert logger.columns == ["images_seen"]
    logger.log_metrics({"train/loss": 0.25}, step=192)
    logger.write()
    assert MetricsCSV(tmp_path).rows == {192: {"images_seen": "192", "train/loss": "0.25"}}
    assert not content or (tmp_path / "metrics.damaged.csv").read_bytes() == content


@pytest.mark.parametrize("line", ["2,128,fi", "x,y,z,w\n", "2,128,fine,,1,2\n"])
def test_a_torn_table_of_collapse(line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "collapse.csv"
    path.write_text("epoch,images_seen,state,event\n1,64,fine,\n" + line)
    assert read_rows(path) == [{"epoch": 1, "images_seen": 64, "state": "fine", "event": ""}]
    assert "1 damaged line" in lines_of(capsys)[1][0]


@pytest.mark.parametrize(
    "record", [{"format": 2, "versions": []}, {"format": [1]}, {"versions": 3}, {"format": 2, "seed": "0"}]
)
def test_a_record_of_wrong_types_is_one_line(record: dict[str, Any], two_runs: list[Path]) -> None:
    (two_runs[0] / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError) as error:
        genai.load(two_runs[0])
    assert "\n" not in str(error.value)
    assert str(two_runs[0]) in str(error.value)
