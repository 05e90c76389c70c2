"""MNIST's files, whole and damaged, and its splits."""

import gzip
import os
import socket
import struct
import time
from pathlib import Path

import numpy as np
import pytest

from genai.data.mnist import MNIST, data_roots, read_idx
from genai.errors import UserError

FILES = {"train": 60, "t10k": 10}


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()


def images_of(prefix: str) -> np.ndarray:
    return np.random.RandomState(len(prefix)).randint(256, size=(FILES[prefix], 28, 28))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small dataset in torchvision's layout: image i has the label i % 10."""
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path / "cache"))
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, num in FILES.items():
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(idx(images_of(prefix)))
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(np.arange(num) % 10))
    return tmp_path


def build_error(root: Path) -> str:
    with pytest.raises(UserError) as caught:
        MNIST(root=str(root)).split("train")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_splits(root: Path) -> None:
    data = MNIST(root=str(root))
    train, val, test = (data.split(name) for name in ("train", "val", "test"))
    assert np.array_equal(train.images[:, 0], images_of("train")[:50])
    assert np.array_equal(val.images[:, 0], images_of("train")[50:])
    assert np.array_equal(test.images[:, 0], images_of("t10k"))
    assert val.labels.tolist() == list(range(10))
    assert train.labels.dtype == np.int64
    assert len({data.fingerprint(name) for name in ("train", "val", "test")}) == 3


def test_excluded_classes_are_left_out_of_training_and_not_of_the_test(root: Path) -> None:
    whole, data = MNIST(root=str(root)), MNIST(root=str(root), exclude=[3, 7])
    assert set(data.split("train").labels) == set(data.split("val").labels) == set(range(10)) - {3, 7}
    kept = ~np.isin(whole.split("train").labels, [3, 7])
    assert np.array_equal(data.split("train").images, whole.split("train").images[kept])
    assert set(data.split("test").labels) == set(range(10))
    assert [data.fingerprint(name) == whole.fingerprint(name) for name in ("train", "val", "test")] == [False, False, True]
    for wrong in ([10], list(range(10))):
        with pytest.raises(UserError, match="should name some of the classes 0 to 9"):
            MNIST(root=str(root), exclude=wrong)


def test_size_32_pads_with_background(root: Path) -> None:
    data = MNIST(root=str(root), size=32)
    images = data.split("test").images
    assert images.shape[1:] == data.image_shape == (1, 32, 32)
    assert np.array_equal(images[:, 0, 2:-2, 2:-2], images_of("t10k"))
    assert images.sum() == images_of("t10k").sum()
    assert data.fingerprint("test") != MNIST(root=str(root)).fingerprint("test")


def test_stacked_channels_are_the_digits_of_the_label(root: Path) -> None:
    data = MNIST("stacked", num_triples=40, root=str(root))
    train = data.split("train")
    assert (len(train), len(data.split("test"))) == (40, 10_000)
    assert data.image_shape == (3, 28, 28)
    assert len(data.class_names) == data.num_classes == 1000
    source = images_of("train")[:50]
    for image, label in zip(train.images, train.labels, strict=True):
        digits = [int(np.flatnonzero((source == channel).all((1, 2)))[0]) % 10 for channel in image]
        assert data.class_names[label] == "".join(map(str, digits))


def test_gzipped_files_directly_in_the_root(root: Path, tmp_path: Path) -> None:
    plain = MNIST(root=str(root))
    fingerprint = plain.fingerprint("train")
    for file in (root / "MNIST" / "raw").iterdir():
        (tmp_path / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    assert MNIST(root=str(root)).fingerprint("train") == fingerprint


def test_a_replaced_file_is_noticed(root: Path) -> None:
    before = MNIST(root=str(root)).fingerprint("test")
    file = root / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    file.write_bytes(idx(255 - images_of("t10k")))
    os.utime(file, ns=(1, 1))
    assert MNIST(root=str(root)).fingerprint("test") != before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx(np.zeros((60, 28, 28)))[:-1], "truncated"),
        (idx(np.zeros((60, 28, 28))) + b"\0", "too long"),
        (b"", "not an IDX file"),
        (b"<html>not found</html>" * 100, "not an IDX file"),
        (idx(np.zeros((60, 27, 28))), "28x28"),
    ],
)
def test_damaged_images(root: Path, content: bytes, message: str) -> None:
    file = root / "MNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(content)
    error = build_error(root)
    assert message in error
    assert str(file) in error


@pytest.mark.parametrize("labels", [np.arange(59) % 10, np.full(60, 10)], ids=["one short", "out of range"])
def test_labels_that_do_not_fit(root: Path, labels: np.ndarray) -> None:
    file = root / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    file.write_bytes(idx(labels))
    assert "train-images-idx3-ubyte" in build_error(root)


@pytest.mark.parametrize("damage", [lambda content: content[:-20], lambda content: content[:40] + b"\xff" * 40 + content[80:]])
def test_damaged_gzip(root: Path, damage: object) -> None:
    file = root / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    content = gzip.compress(file.read_bytes())
    file.unlink()
    file.with_name(f"{file.name}.gz").write_bytes(damage(content))  # type: ignore[operator]
    assert f"{file}.gz is damaged" in build_error(root)


def test_no_data_and_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    started = time.monotonic()
    error = build_error(tmp_path)
    assert time.monotonic() - started < 10
    assert str(tmp_path / "MNIST" / "raw") in error
    assert "GENAI_DATA" in error
    assert "Digits" in error


def test_where_files_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENAI_DATA", "/env")
    assert data_roots("/given") == [Path("/given")]
    assert data_roots(None) == [Path("/env"), Path("data")]


def test_fashion_has_names_before_any_file() -> None:
    data = MNIST("fashion", root="/nowhere")
    assert (data.name, data.num_classes, data.class_names[9]) == ("fashion", 10, "ankle boot")


def test_the_real_files() -> None:
    folder = os.environ.get("GENAI_DATA")
    if not folder or not MNIST(root=folder).files_in(Path(folder)):
        pytest.skip("no MNIST/raw in $GENAI_DATA")
    data = MNIST(root=folder)
    train, val, test = (data.split(name) for name in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (50_000, 10_000, 10_000)
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(np.concatenate([train.labels, val.labels]))[:3].tolist() == [5923, 6742, 5958]
    assert train.images[:].mean() == pytest.approx(0.1307 * 255, rel=0.01)


def test_read_idx(tmp_path: Path) -> None:
    array = np.arange(24).reshape(2, 3, 4)
    (tmp_path / "file").write_bytes(idx(array))
    assert np.array_equal(read_idx(tmp_path / "file", 3), array)
