"""UTKFace: labels from file names, in the documented order."""

from itertools import islice

import numpy as np
import pytest

from genai.data import archives
from genai.data.base import data_roots
from genai.data.decoding import decode_image
from genai.data.utkface import UTKFace, parse_label, parse_name
from genai.errors import UserError
from tests.data.photographs import BROKEN, encoded, plain, utk_files, write

UTKFACE = next((path for root in data_roots(None) if (path := root / "utkface" / "UTKFace.tar.gz").is_file()), None)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path / "cache"))


def test_the_fields_of_utkface_names() -> None:
    assert parse_name("25_1_3_20170116.jpg") == (25, 1, 3)
    assert parse_name("24_0_1_20170116220224657 .jpg.chip.jpg") == (24, 0, 1)
    assert parse_name("61_1_20170109142408075.jpg.chip.jpg") == (61, 1, None)
    assert parse_name("__3_2017.jpg") == (None, None, 3)
    assert parse_name("holiday.jpg") == (None, None, None)


def test_labels_follow_the_documented_order() -> None:
    name = "UTKFace/66_1_2_20170116.jpg"
    assert parse_label(name, "gender") == 1
    assert parse_label(name, "ethnicity") == 2
    assert parse_label(name, "attributes") == [0, 0, 1, 0, 0, 1, 0, 0]
    assert parse_label("5_0_0_2017.jpg", "attributes") == [1, 1, 0, 1, 0, 0, 0, 0]
    ages = [parse_label(f"{age}_0_0_2017.jpg", "age_group") for age in (0, 12, 13, 19, 20, 39, 40, 59, 60, 116)]
    assert ages == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_a_missing_field_matters_only_where_it_is_needed(tmp_path) -> None:
    root = write(tmp_path, {**utk_files(), "UTKFace/61_1_20170109142408075.jpg": encoded(plain(), "JPEG")})
    assert len(UTKFace(root=str(root), size=8, labels="gender", strict=True).cache_entry().labels) == 21
    data = UTKFace(root=str(root), size=8, labels="ethnicity", strict=True)
    assert len(data.cache_entry().labels) == 20
    assert data.cache_entry().meta["skipped"] == ["61_1_20170109142408075.jpg: no ethnicity in its name"]
    assert data.num_classes == 5


def test_labels_belong_to_their_pictures(tmp_path) -> None:
    source = write(tmp_path / "photos.tar.gz", {**BROKEN, **utk_files()})
    data = UTKFace(root=str(source), size=8, labels="attributes")
    assert data.label_kind == "attributes"
    for split in ("train", "val", "test"):
        images, labels = data.split(split).images, data.split(split).labels
        assert labels.dtype == np.float32
        for image, label in zip(images, labels, strict=True):
            i = round(float(image.mean()) / 10)
            assert label[0] == (i % 2 == 0)
            assert np.argmax(label[3:]) == i % 5


@pytest.mark.skipif(UTKFACE is None, reason="UTKFace.tar.gz is not in GENAI_DATA")
def test_utkface_names_have_labels_and_its_pictures_decode() -> None:
    some = list(islice(archives.pictures(UTKFACE), 300))
    assert sum(parse_label(picture.name, "attributes") is None for picture in some) <= 3
    assert all(decode_image(picture.content, 32, 3).std() > 5 for picture in some)


def test_the_split_depends_on_the_file_name_alone(tmp_path) -> None:
    names = [f"{i}.jpg" for i in range(1, 40)]
    write(tmp_path / "a", {f"UTKFace/{name}": b"" for name in names})
    write(tmp_path / "b", {f"utkface/UTKFace/part/{name}": b"" for name in names})
    ours, theirs = (UTKFace(root=str(tmp_path / folder)).plan().splits for folder in "ab")
    assert ours == theirs | {split: [name.rsplit("/")[-1] for name in theirs[split]] for split in theirs}


def test_a_missing_or_unlabelled_source_is_named(tmp_path) -> None:
    with pytest.raises(UserError, match=r"UTKFace\.tar\.gz .*susanqq.*Avatars"):
        UTKFace(root=str(tmp_path)).prepare_data()
    write(tmp_path, {f"UTKFace/holiday-{i}.jpg": encoded(plain()) for i in range(5)})
    with pytest.raises(UserError, match=r"0 images with labels 'gender'.*labels: none"):
        UTKFace(root=str(tmp_path), labels="gender").prepare_data()
