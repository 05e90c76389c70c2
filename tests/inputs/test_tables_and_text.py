"""Tables of labels, arrays, IDX and text files as people have them: read rightly, or one line that names the file."""

import io
import os
import struct
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from genai.cli import main
from genai.data.class_folder import ClassFolder
from genai.data.huggingface import label_texts
from genai.data.image_table import ImageTable
from genai.data.mnist import MNIST
from genai.data.npz import Npz, to_uint8_array
from genai.data.sources import classes_of
from genai.data.text_files import TextFiles
from genai.errors import UserError
from genai.models.gan.gan import GAN
from genai.training.checks import check_experiment
from genai.training.devices import check_accelerator

ROWS = [f"{i:02d}.png,{'cat' if i % 2 else 'dog'}" for i in range(12)]
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(12):
        Image.fromarray(IMAGES[i]).save(folder / f"{i:02d}.png")
    return folder


READ = {
    "BOM": "\ufeff" + "\n".join(["file,label", *ROWS]),
    "CRLF": "\r\n".join(["file,label", *ROWS]) + "\r\n",
    "semicolons": "\n".join(["file;label", *ROWS]).replace(",", ";"),
    "tabs": "\n".join(["file,label", *ROWS]).replace(",", "\t"),
    "spaces": "\n".join(["file, label", *ROWS]).replace(",", ", "),
    "dots": "\n".join(["file,label", *(f"./{row}" for row in ROWS)]),
    "a row twice": "\n".join(["file,label", *ROWS, ROWS[0]]),
    "quotes": "\n".join(["file,label", *(f'"{row.replace(",", chr(34) + "," + chr(34))}"' for row in ROWS)]),
}


@pytest.mark.parametrize("text", READ.values(), ids=READ)
def test_a_table_is_read(text: str, pictures: Path) -> None:
    table = pictures.parent / "labels.csv"
    table.write_bytes(text.encode())
    data = ImageTable(str(pictures), str(table), size=8)
    assert data.class_names == ("cat", "dog")
    assert data.rows == {f"{i:02d}.png": ["cat" if i % 2 else "dog"] for i in range(12)}


REFUSED = {
    "other label": ("\n".join(["file,label", *ROWS, "00.png,cat"]), "different labels for 00.png, the last in row 14"),
    "no label": ("\n".join(["file,label", *ROWS, "13.png,"]), "no label for 13.png in row 14"),
    "no header": ("\n".join(ROWS), "begins with 00.png instead of the names"),
    "a column twice": ("\n".join(["file,label,label", *(f"{row},x" for row in ROWS)]), "the column label twice"),
    "UTF-16": ("\n".join(["file,label", *ROWS]).encode("utf-16"), "not a CSV in UTF-8"),
    "empty": ("", "not a CSV in UTF-8"),
    "NUL": (b"file,label\n00.png,\0\n", "labels.csv"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED)
def test_a_table_is_refused(text: str | bytes, message: str, pictures: Path) -> None:
    table = pictures.parent / "labels.csv"
    table.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=message) as error:
        ImageTable(str(pictures), str(table))
    assert str(table) in str(error.value)


def test_a_table_that_is_a_pipe_is_refused_at_once(pictures: Path) -> None:
    os.mkfifo(pictures / "labels.csv")
    os.mkfifo(pictures.parent / "other.csv")
    with pytest.raises(UserError):
        ImageTable(str(pictures), str(pictures.parent / "other.csv"))


def test_rows_without_a_picture_are_counted(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (pictures / "labels.csv").write_text("\n".join(["file,label", *ROWS, "98.png,cat", "99.png,dog"]))
    ImageTable(str(pictures), size=8).prepare_data()
    captured = capsys.readouterr()
    assert "labels.csv names 2 files that are no images" in captured.out + captured.err


def packed(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def encrypted(content: bytes) -> bytes:
    """An archive whose members say that they are encrypted."""
    changed = bytearray(content)
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        start = content.find(mark)
        while start >= 0:
            changed[start + offset] |= 1
            start = content.find(mark, start + 1)
    return bytes(changed)


def huge() -> bytes:
    file, header = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**12, 8, 8)})
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("images.npy", header.getvalue())
    return file.getvalue()


def single() -> bytes:
    file = io.BytesIO()
    np.save(file, IMAGES)
    return file.getvalue()


ARRAYS = {
    "objects": packed(images=np.array([IMAGES[0], None], dtype=object)),
    "float labels": packed(images=IMAGES, labels=np.arange(40) * 1.0),
    "one-hot labels": packed(images=IMAGES, labels=np.eye(40)),
    "flat": packed(images=IMAGES.reshape(40, 64)),
    "no pixels": packed(images=IMAGES[:, :0]),
    "structured": packed(images=np.zeros((40, 8, 8), dtype=[("a", "u1")])),
    "text": packed(images=np.full((40, 8, 8), "a")),
    "encrypted": encrypted(packed(images=IMAGES)),
    "huge": huge(),
    "a single array": single(),
    "no archive": b"hello",
    "empty": b"",
    "cut": packed(images=IMAGES)[:900],
}


@pytest.mark.parametrize("content", ARRAYS.values(), ids=ARRAYS)
def test_arrays_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.npz"):
        Npz(str(path)).prepare_data()


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.mark.parametrize(
    "kind", ["right", "train and test exchanged", "test is train", "test begins train", "labels as images"]
)
def test_idx_files_that_were_mixed_up(kind: str, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (160, 28, 28), dtype=np.uint8)
    labels = (np.arange(160) % 10).astype(np.uint8)
    parts = [(images[:120], labels[:120]), (images[120:], labels[120:])]
    parts = parts[::-1] if kind == "train and test exchanged" else parts
    parts = [parts[0], parts[0]] if kind == "test is train" else parts
    parts = [parts[0], (images[:40], labels[:40])] if kind == "test begins train" else parts
    parts = [parts[0][::-1], parts[1]] if kind == "labels as images" else parts
    for prefix, (own, numbers) in zip(("train", "t10k"), parts, strict=True):
        (tmp_path / f"{prefix}-images-idx3-ubyte").write_bytes(idx(own))
        (tmp_path / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(numbers))
    data = MNIST(root=str(tmp_path))
    if kind == "right":
        data.prepare_data()
        return
    with pytest.raises(UserError, match="delete"):
        data.prepare_data()


LINES = b"".join(b'{"text": "number %d and some more"}\n' % i for i in range(40))
TEXTS = {
    "UTF-16": ("x.txt", ("hello\n" * 99).encode("utf-16"), "UTF-16"),
    "NUL": ("x.txt", b"hello\n" * 99 + b"\0", "binary"),
    "Latin-1": ("x.txt", "é\n".encode("latin-1") * 99, "not UTF-8"),
    "spaces": ("x.txt", b" \n" * 99, "empty"),
    "missing field": ("x.jsonl", LINES + b'{"body": "x"}\n', "line 41"),
    "number": ("x.jsonl", LINES + b'{"text": 3}\n', "line 41"),
    "deep": ("x.jsonl", LINES + b"[" * 100_000, "line 41"),
    "half a character": ("x.jsonl", LINES + b'{"text": "\\ud800"}\n', "line 41"),
    "torn": ("x.jsonl", LINES[:-9], "line 40"),
}


@pytest.mark.parametrize(("name", "content", "message"), TEXTS.values(), ids=TEXTS)
def test_text_files_are_refused(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        TextFiles(root=str(tmp_path / name), context_length=8).prepare_data()
    assert name in str(error.value)


@pytest.mark.parametrize("name", ["..", ".", "", "../up", "/tmp/x", "a/b", "a\\b", "-dash", "a\nb", " a", "x" * 300, "é" * 150])
def test_names_of_experiments_that_are_no_folder(name: str) -> None:
    with pytest.raises(UserError, match="experiment"):
        check_experiment(name)


@pytest.mark.parametrize("name", ["my-gan", "a b", "ünï – 名", ".hidden", "a.b", None])
def test_names_of_experiments(name: str | None) -> None:
    check_experiment(name)


def test_more_processes_than_cores_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    for devices in (1, 2, "auto", -1):
        check_accelerator(SimpleNamespace(accelerator="cpu", devices=devices, num_nodes=1))
    with pytest.raises(UserError, match=r"--trainer\.devices 7 is more than the 2 CPU cores"):
        check_accelerator(SimpleNamespace(accelerator="cpu", devices=7, num_nodes=1))


@pytest.mark.parametrize("name", ["grid.txt", "grid.JPG", "grid.mp4"])
def test_an_ending_that_is_not_written_is_refused_before_sampling(
    name: str, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(GAN, "sample", None)
    assert main(["sample", "zoo/mnist-gan", "--num", "2", "--out", name]) == 2
    assert "should end in .png" in capsys.readouterr().err
    assert list(workspace.glob(name)) == []


def test_a_folder_of_samples_may_have_a_dot_in_its_name(workspace: Path) -> None:
    assert main(["sample", "zoo/mnist-gan", "--num", "2", "--out", "samples.v2/"]) == 0
    assert [path.name for path in sorted(Path("samples.v2").iterdir())] == ["00000.png", "00001.png"]


def test_a_folder_that_was_deleted_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = Path.cwd()
    (tmp_path / "gone").mkdir()
    try:
        os.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()
        assert main(["runs"]) == 2
    finally:
        os.chdir(before)
    assert "does not exist any more" in capsys.readouterr().err


def test_a_tar_of_a_folder_is_read_like_the_folder(pictures: Path, tmp_path: Path) -> None:
    """`tar -C pictures .` names the files ./00.png."""
    with tarfile.open(tmp_path / "pictures.tar.gz", "w:gz") as archive:
        archive.add(pictures, ".")
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["file,label", *ROWS]) + "\n")
    data = ImageTable(str(tmp_path / "pictures.tar.gz"), table=str(table), size=8, channels=1)
    folder = ImageTable(str(pictures), table=str(table), size=8, channels=1)
    assert [len(data.split(name)) for name in ("train", "val", "test")] == [
        len(folder.split(name)) for name in ("train", "val", "test")
    ]
    assert sorted(data.split("train").labels) == sorted(folder.split("train").labels)


def test_floats_a_little_below_zero_are_in_the_unit_interval(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((30, 8, 8)).astype(np.float32)
    images[0, 0, 0], images[0, 0, 1] = -1e-3, 0.0
    assert to_uint8_array(images, tmp_path).min() == 0
    assert to_uint8_array(2 * images - 1 if images.min() >= 0 else np.clip(2 * images - 1, -1, 1), tmp_path)[0, 0, 1] == 0


def test_the_order_of_classes_does_not_depend_on_hashes() -> None:
    assert classes_of(["2", "1", "01", "001"], "x") == ("001", "01", "1", "2")
    assert classes_of(["3", "-1", "-10"], "x") == ("-10", "-1", "3")


@pytest.mark.parametrize(
    ("names", "values"), [(["cat", "dog"], [0, 1, -1]), (["cat", "dog"], [0, None, 1]), (None, [4, None, 5])]
)
def test_rows_without_a_label_are_refused(names: list[str] | None, values: list[int | None]) -> None:
    class Part(dict):  # of a Hugging Face dataset
        def __len__(self) -> int:
            return len(values)

    part = Part(label=values)
    part.features = {"label": SimpleNamespace(names=names)}
    with pytest.raises(UserError, match="has no label"):
        label_texts(part, "label")


def test_the_bit_depth_of_folders_of_classes(tmp_path: Path) -> None:
    for i in range(12):
        path = tmp_path / "photos" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 999, np.uint16)).save(path)
    read = {
        depth: ClassFolder(str(tmp_path / "photos"), size=8, channels=1, bit_depth=depth).split("train").images[0].max()
        for depth in (None, 12)
    }
    assert read[None] == round(255 * 999 / 1023)
    assert read[12] == round(255 * 999 / 4095)
