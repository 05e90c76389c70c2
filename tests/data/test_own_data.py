"""Data of one's own without a class: folders of classes, a CSV, an .npz, a Parquet file."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genai.cli import main
from genai.data import ClassFolder, HuggingFace, ImageTable, Npz
from genai.data.arrays import SPLITS
from genai.data.sources import classes_of, split_rows
from genai.errors import UserError

SHADES = {"cat": 40, "dog": 200}


def png(shade: int) -> bytes:
    """A picture whose class can be read off its first pixel."""
    pixels = np.tile(np.arange(8, dtype=np.uint8) * 4, (8, 1)) + np.uint8(shade)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """30 pictures in folders cat/ and dog/, below one folder more."""
    for name, shade in SHADES.items():
        (tmp_path / "pets/inner" / name).mkdir(parents=True)
        for i in range(15):
            (tmp_path / f"pets/inner/{name}/{i}.png").write_bytes(png(shade + i))
    return tmp_path / "pets"


def labels_and_shades(data) -> list[tuple[str, int]]:
    """The class and the first pixel of every image of every split."""
    found = []
    for split in SPLITS:
        images = data.split(split)
        found += [(data.class_names[images.labels[i]], int(images.images[i, 0, 0, 0])) for i in range(len(images))]
    return sorted(found)


EXPECTED = sorted((name, shade + i) for name, shade in SHADES.items() for i in range(15))


def test_folders_are_classes(pets: Path) -> None:
    data = ClassFolder(str(pets), size=8, channels=1)
    assert (data.class_names, data.num_classes, data.label_kind) == (("cat", "dog"), 2, "class")
    assert labels_and_shades(data) == EXPECTED
    (pets / "inner/loose.png").write_bytes(png(3))
    with pytest.raises(UserError, match="outside of a folder"):
        ClassFolder(str(pets), size=8)


def test_folders_of_splits_are_no_classes(pets: Path) -> None:
    (pets / "inner").rename(pets / "train")
    for name in SHADES:
        (pets / "Test" / name).mkdir(parents=True)
        (pets / f"Test/{name}/0.png").write_bytes(png(3))
    with pytest.raises(UserError, match="Test, train, which are splits"):
        ClassFolder(str(pets), size=8)
    assert ClassFolder(str(pets / "train"), size=8).class_names == ("cat", "dog")


def test_a_table_has_classes_or_attributes(pets: Path) -> None:
    rows = [f"inner/{name}/{i}.png,{name},{i % 2},{int(name == 'dog')}" for name in SHADES for i in range(15)]
    (pets / "labels.csv").write_text("\n".join(["file,kind,odd,dog", *rows]))
    data = ImageTable(str(pets), columns=["kind"], size=8, channels=1)
    assert labels_and_shades(data) == EXPECTED
    assert data.describe().endswith(" images")  # the table is not counted as an ignored file
    attributes = ImageTable(str(pets), columns=["odd", "dog"], size=8, channels=1)
    assert (attributes.label_kind, attributes.class_names) == ("attributes", ("odd", "dog"))
    split = attributes.split("train")
    assert split.labels.dtype == np.float32
    for image, (odd, dog) in zip(split.images, split.labels, strict=True):
        number = int(image[0, 0, 0]) - SHADES["dog" if dog else "cat"]
        assert number in range(15)
        assert number % 2 == odd
    wrong = {"lacks the column colour": {"columns": ["colour"]}, "attributes are 0 or 1": {}, "no CSV file": {"table": "x.csv"}}
    for message, options in wrong.items():
        with pytest.raises(UserError, match=message):
            ImageTable(str(pets), **options)  # type: ignore[arg-type]


def test_a_table_with_the_paths_in_another_column(pets: Path) -> None:
    rows = [f"inner/{name}/{i}.png" for name in SHADES for i in range(15)]
    for header, line in (("kind,file", "{1},{0}"), (",file,kind", "{2},{0},{1}")):
        lines = [line.format(row, row.split("/")[1], i) for i, row in enumerate(rows)]
        (pets / "labels.csv").write_text("\n".join([header, *lines]))
        with pytest.raises(UserError, match="column 2, file: make it the first"):
            ImageTable(str(pets))
    (pets / "labels.csv").write_text("\n".join(["", "file;kind", *(f"{row};{row.split('/')[1]}" for row in rows)]))
    assert ImageTable(str(pets)).class_names == ("cat", "dog")  # an empty first line


def test_accents_in_file_names_of_a_mac_match_those_of_a_table(pets: Path) -> None:
    (pets / "inner").rename(pets / "a\u0308")
    rows = [f"\u00e4/{name}/{i}.png,{name}" for name in SHADES for i in range(15)]
    (pets / "labels.csv").write_text("\n".join(["file,kind", *rows]), encoding="utf-8")
    assert labels_and_shades(ImageTable(str(pets), size=8, channels=1)) == EXPECTED


PIXELS = np.arange(30, dtype=np.uint8)[:, None, None] * 8 + np.zeros((30, 8, 8), np.uint8)
LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "NHW": lambda x: x,
    "NHWC": lambda x: x[..., None],
    "NCHW": lambda x: x[:, None],
    "colour": lambda x: np.repeat(x[..., None], 3, axis=3),
    "float": lambda x: (x / 255).astype(np.float32),
    "signed": lambda x: x / 127.5 - 1,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_of_any_layout_are_the_same_images(tmp_path: Path, layout: str) -> None:
    np.savez(tmp_path / "x.npz", images=LAYOUTS[layout](PIXELS), labels=np.arange(30) % 3)
    data = Npz(str(tmp_path / "x.npz"))
    assert data.image_shape == ((3 if layout == "colour" else 1), 8, 8)
    assert labels_and_shades(data) == sorted((str(i % 3), 8 * i) for i in range(30))
    assert [len(data.split(split)) for split in SPLITS] != [30, 0, 0]


def test_wrong_arrays_are_refused_in_one_line(tmp_path: Path) -> None:
    wrong = {
        "no array `images`": {"pictures": PIXELS},
        "cannot be read": {"images": np.array([None, {}])},
        "which can be NCHW and NHWC": {"images": np.zeros((5, 3, 4, 3), np.uint8)},
        "with 1 or 3 channels": {"images": np.zeros((5, 4, 4, 2), np.uint8)},
        "give uint8, or floats": {"images": 7 * PIXELS.astype(float)},
        "for 30 images": {"images": PIXELS, "labels": np.zeros(4, int)},
        "one integer or text": {"images": PIXELS, "labels": np.zeros(30)},
        "has 1 different labels": {"images": PIXELS, "labels": np.zeros(30, int)},
        "needs three": {"images": PIXELS[:2]},
    }
    for message, arrays in wrong.items():
        path = tmp_path / "wrong.npz"
        np.savez(path, **arrays)  # type: ignore[arg-type]
        with pytest.raises(UserError, match=message) as error:
            Npz(str(path)).prepare_data()
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"there is no \.npz file"):
        Npz("nowhere.npz")


def test_copies_unlearnable_classes_and_dark_images_of_an_npz_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test_row = split_rows(30, "x")["test"][0]
    labels = np.where(np.arange(30) == test_row, "rare", "frequent")
    np.savez(tmp_path / "x.npz", images=np.ones((30, 8, 8), np.uint8), labels=labels)
    Npz(str(tmp_path / "x.npz")).prepare_data()
    errors = capsys.readouterr().err
    assert "exact copies of images of train" in errors
    assert "train has no image of 1 of 2 classes (rare)" in errors
    assert "all pixels are between 1 and 1 of 0..255" in errors


def test_classes_are_sorted_and_few() -> None:
    assert classes_of([10, 9, 2, 2], "x") == ("2", "9", "10")
    assert classes_of(["b", "a"], "x") == ("a", "b")
    with pytest.raises(UserError, match="2000 different"):
        classes_of(range(2000), "x")


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    datasets = pytest.importorskip("datasets")
    rows = [(name, shade + i) for name, shade in SHADES.items() for i in range(15)]
    content = {
        "image": [{"bytes": png(shade), "path": None} for _, shade in rows] + [{"bytes": b"damaged", "path": None}],
        "label": [list(SHADES).index(name) for name, _ in rows] + [0],
    }
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(SHADES))})
    path = tmp_path / "pets.parquet"
    datasets.Dataset.from_dict(content, features).to_parquet(str(path))
    return path


def test_a_parquet_file_of_hugging_face(parquet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    data = HuggingFace(str(parquet), size=8, channels=1)
    assert data.class_names == ("cat", "dog")
    assert labels_and_shades(data) == EXPECTED
    assert len(data.cache_entry().meta["skipped"]) == 1
    assert HuggingFace(str(parquet), label_column=None, size=8).label_kind == "none"
    with pytest.raises(UserError, match="no column picture"):
        HuggingFace(str(parquet), image_column="picture")


def test_wrong_columns_of_hugging_face_are_refused_in_one_line(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    pictures = [{"bytes": png(shade), "path": None} for shade in range(10)]
    classes = [i % 2 for i in range(10)]
    wrong = {
        "row 3 of 10 has no label": (pictures, [1.0, 0.0, 1.0, float("nan")] + [0.0] * 6),
        "row 1 of 10 has no label": (pictures, ["a", ""] * 5),
        "several values": (pictures, [[k, 1] for k in classes]),
        "no images in the column image": (classes, classes),
        "no readable image for train": ([{"bytes": None, "path": "nowhere.png"}] * 10, classes),
    }
    for number, (message, (images, labels)) in enumerate(wrong.items()):
        path = tmp_path / f"{number}.parquet"
        datasets.Dataset.from_dict({"image": images, "label": labels}).to_parquet(str(path))
        with pytest.raises(UserError, match=message) as error:
            HuggingFace(str(path), size=8).prepare_data()
        assert "\n" not in str(error.value)


def test_images_of_16_bits_of_hugging_face_keep_their_relative_brightness(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    values = (1000, 4000, 5000, 40000)
    contents = [io.BytesIO() for _ in values]
    for content, value in zip(contents, values, strict=True):
        Image.fromarray(np.full((8, 8), value, np.uint16)).save(content, "PNG")
    pictures = [{"bytes": content.getvalue(), "path": None} for content in contents]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    table = {"image": pictures * 3, "label": [*range(4)] * 3}
    datasets.Dataset.from_dict(table, features).to_parquet(str(tmp_path / "scans.parquet"))
    entry = HuggingFace(str(tmp_path / "scans.parquet"), size=8, channels=1).cache_entry()
    assert {values[k]: image.mean() for k, image in zip(entry.labels, entry.images, strict=True)} == {
        value: value // 257 for value in values
    }
    with pytest.raises(UserError, match="size"):
        HuggingFace(str(tmp_path / "scans.parquet"), size=-1)


def test_a_preset_trains_on_them(pets: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    quick = ["--trainer.fast_dev_run", "1", "--evaluation.every_n_epochs", "0", "--data.init_args.batch_size", "4"]
    size = ["--data.init_args.size", "8", "--data.init_args.channels", "1"]
    own = ["--data", "ClassFolder", "--data.init_args.root", str(pets), *size]
    assert main(["fit", "-c", "digits/cgan", *own, *quick]) == 0
