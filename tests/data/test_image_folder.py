"""A user's own folder or archive: damage is named, every image has a fixed split."""

import json
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml

from genai.cli import main
from genai.data import archives
from genai.data.image_folder import ImageFolder
from genai.data.photos import split_by_hash
from genai.errors import UserError
from tests.data.photographs import BROKEN, encoded, plain, utk_files, write


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path / "cache"))


def test_unreadable_pictures_are_skipped_counted_and_listed(tmp_path, capsys) -> None:
    good = utk_files()
    data = ImageFolder(str(write(tmp_path / "photos", {**good, **BROKEN})), size=8)
    splits = [data.split(split) for split in ("train", "val", "test")]
    assert sum(map(len, splits)) == len(good)
    skipped = data.cache_entry().meta["skipped"]
    assert {line.split(":")[0] for line in skipped} == set(BROKEN)
    assert "skipped 5 of 25 images" in capsys.readouterr().err
    greys = sorted(round(float(image.mean()), -1) for split in splits for image in split.images)
    assert greys == [i * 10 for i in range(20)]  # no row is lost, doubled or black


@pytest.mark.parametrize("name", BROKEN)
def test_strict_refuses_unreadable_pictures_by_name(tmp_path, name: str) -> None:
    source = write(tmp_path / "photos.zip", {**utk_files(), name: BROKEN[name]})
    with pytest.raises(UserError, match=rf"photos.zip .*{name}.*strict"):
        ImageFolder(str(source), size=8, strict=True).prepare_data()


@pytest.mark.parametrize("ending", ["", ".zip", ".tar", ".tar.gz"])
def test_folder_zip_and_tar_hold_the_same_pictures(tmp_path, ending: str) -> None:
    image = encoded(plain())
    hidden = (".ipynb_checkpoints/a.jpg", "UTKFace/.Trash-1000/a.jpg", "@eaDir/a.jpg", ".a.jpg", "UTKFace/.thumbnails/x/a.jpg")
    junk = {
        "__MACOSX/UTKFace/._1_0_0_20170101.jpg": b"x",
        "__MACOSX/a.jpg": image,
        "UTKFace/._a.jpg": b"x",
        "UTKFace/.DS_Store": b"x",
        "readme.txt": b"x",
        **dict.fromkeys(hidden, image),
    }
    reference = ImageFolder(str(write(tmp_path / "reference", utk_files())), size=8)
    data = ImageFolder(str(write(tmp_path / f"photos{ending}", {**junk, **utk_files()})), size=8, strict=True)
    for split in ("train", "val", "test"):
        assert np.array_equal(data.split(split).images, reference.split(split).images)
        assert np.array_equal(data.split(split).labels, reference.split(split).labels)
    assert data.cache_entry().meta["skipped"] == []


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".zip"])
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_truncated_archives_are_refused(tmp_path, ending: str, share: float) -> None:
    path = write(tmp_path / f"photos{ending}", utk_files())
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(UserError, match=rf"photos{ending} is damaged or truncated"):
        ImageFolder(str(path)).prepare_data()


def test_a_tar_cut_between_two_members_is_refused(tmp_path) -> None:
    path = write(tmp_path / "photos.tar", utk_files())
    with tarfile.open(path) as archive:
        cut = archive.getmembers()[10].offset
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UserError, match="truncated"):
        ImageFolder(str(path)).prepare_data()


@pytest.mark.parametrize("name", ["../evil.jpg", "/etc/evil.jpg", "a/../../evil.jpg", "..\\evil.jpg", "C:\\evil.jpg"])
@pytest.mark.parametrize("ending", [".zip", ".tar"])
def test_members_that_escape_are_refused_by_name(tmp_path, name: str, ending: str) -> None:
    path = write(tmp_path / f"photos{ending}", {**utk_files(3), name: encoded(plain())})
    with pytest.raises(UserError, match=r"escapes its folder, .*evil\.jpg"):
        ImageFolder(str(path)).prepare_data()
    assert not list(tmp_path.rglob("evil.jpg"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_in_a_tar_are_refused(tmp_path, kind: bytes) -> None:
    member = tarfile.TarInfo("link.jpg")
    member.type, member.linkname = kind, "/etc/passwd"
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        archive.addfile(member)
    with pytest.raises(UserError, match=r"not a plain file, 'link\.jpg'"):
        ImageFolder(str(tmp_path / "photos.tar")).prepare_data()


def test_links_in_a_zip_are_refused(tmp_path) -> None:
    member = zipfile.ZipInfo("link.jpg")
    member.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(UserError, match=r"not a plain file, 'link\.jpg'"):
        ImageFolder(str(tmp_path / "photos.zip")).prepare_data()


def test_a_damaged_member_of_a_zip_is_skipped(tmp_path) -> None:
    files = utk_files()
    path = write(tmp_path / "photos.zip", files)
    content = bytearray(path.read_bytes())
    content[content.index(files["UTKFace/1_0_0_20170100.jpg.chip.jpg"]) + 20] ^= 255
    path.write_bytes(content)
    assert "Bad CRC" in ImageFolder(str(path), size=8).cache_entry().meta["skipped"][0]


def test_oversized_members_are_skipped(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(archives, "MAX_BYTES", 5000)
    large = {"large.bmp": encoded(plain(side=64), "BMP")}
    for ending in ("", ".zip", ".tar"):
        data = ImageFolder(str(write(tmp_path / f"photos{ending}", {**utk_files(), **large})), size=8)
        assert data.cache_entry().meta["skipped"][0].startswith("large.bmp: larger than")


def test_a_missing_or_empty_source_is_named(tmp_path) -> None:
    with pytest.raises(UserError, match="no folder or archive nowhere"):
        ImageFolder("nowhere").prepare_data()
    for path in (
        write(tmp_path / "a.zip", {"readme.txt": b""}),
        write(tmp_path / "a.tar", {}),
        write(tmp_path / "a", {"b.txt": b""}),
    ):
        with pytest.raises(UserError, match="has no pictures"):
            ImageFolder(str(path)).prepare_data()
    with pytest.raises(UserError, match="no readable image for"):
        ImageFolder(str(write(tmp_path / "broken", BROKEN))).prepare_data()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match=r"notes\.txt is not a folder"):
        ImageFolder(str(tmp_path / "notes.txt")).prepare_data()


def test_a_source_below_the_data_folder_is_found_and_a_change_is_noticed(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("GENAI_DATA", str(tmp_path))
    write(tmp_path / "photos", utk_files(10))
    assert len(ImageFolder("photos", size=8).cache_entry().labels) == 10
    write(tmp_path / "photos", utk_files(12))
    assert len(ImageFolder("photos", size=8).cache_entry().labels) == 12


def test_an_image_stays_in_its_split() -> None:
    names = [f"{i}.jpg" for i in range(3000)]
    splits = split_by_hash(names, str)
    assert [len(splits[split]) / 3000 for split in ("train", "val", "test")] == pytest.approx([0.8, 0.1, 0.1], abs=0.02)
    fewer = split_by_hash(reversed(names[:500]), str)
    for split in fewer:
        assert set(fewer[split]) <= set(splits[split])
    assert splits["test"][:3] == ["1402.jpg", "991.jpg", "1617.jpg"]  # the same on every machine


@pytest.mark.parametrize("layout", ["p{:03d}/front.jpg", "s{0:d}/{0:d}.jpg"])
def test_images_of_one_name_in_many_folders_are_spread_over_the_splits(tmp_path, layout: str) -> None:
    files = {layout.format(i): encoded(plain((i, 0, 0))) for i in range(100)}
    data = ImageFolder(str(write(tmp_path / "photos", files)), size=8)
    sizes = {split: len(data.split(split)) for split in ("train", "val", "test")}
    assert sum(sizes.values()) == 100
    assert sizes["train"] >= 65
    assert min(sizes["val"], sizes["test"]) >= 3


def test_a_leading_dot_in_an_archive_changes_no_split(tmp_path) -> None:
    plain_names = ImageFolder(str(write(tmp_path / "a.tar", utk_files())), size=8)
    dotted = ImageFolder(
        str(write(tmp_path / "b.tar", {f"./{name}": content for name, content in utk_files().items()})), size=8
    )
    for split in ("train", "val", "test"):
        assert np.array_equal(plain_names.split(split).images, dotted.split(split).images)


def test_links_to_folders_are_followed_once(tmp_path) -> None:
    write(tmp_path / "elsewhere", utk_files(4))
    folder = write(tmp_path / "photos", {"own.jpg": encoded(plain())})
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "loop").symlink_to(folder)
    (folder / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    os.mkfifo(folder / "pipe.jpg")
    assert archives.list_files(folder).names == [f"link/{name}" for name in sorted(utk_files(4))] + ["own.jpg"]


def test_three_pictures_make_three_splits(tmp_path) -> None:
    assert all(len(names) == 1 for names in split_by_hash("abc", str).values())
    with pytest.raises(UserError, match="needs three"):
        ImageFolder(str(write(tmp_path / "photos", utk_files(2)))).prepare_data()


def test_the_cache_lists_its_pictures_as_json(tmp_path) -> None:
    data = ImageFolder(str(write(tmp_path / "photos", {**utk_files(), "empty.jpg": b""})), size=8)
    data.prepare_data()
    meta = next((tmp_path / "cache").rglob("meta.json"))
    assert json.loads(meta.read_text())["skipped"] == ["empty.jpg: empty file"]


def test_a_folder_stays_in_one_split(tmp_path) -> None:
    files = {f"person {i}/{k}.png": encoded(plain((5 * i, 0, 0))) for i in range(40) for k in range(5)}
    data = ImageFolder(str(write(tmp_path / "photos", files)), size=8, group_by="folder")
    people = {split: set(data.split(split).images[:, 0, 0, 0]) for split in ("train", "val", "test")}
    assert sum(map(len, people.values())) == len(set.union(*people.values())) == 40
    assert min(len(data.split(split)) for split in people) >= 5
    with pytest.raises(UserError, match=r"in 1 folders.*group_by: image"):
        ImageFolder(str(tmp_path / "photos" / "person 1"), group_by="folder").prepare_data()


def test_copies_across_splits_are_counted(tmp_path, capsys) -> None:
    files = {f"{i}.png": encoded(plain((5 * (i % 20), 0, 0))) for i in range(40)}
    data = ImageFolder(str(write(tmp_path / "photos", files)), size=8)
    values = {split: data.split(split).images[:, 0, 0, 0].tolist() for split in ("train", "val", "test")}
    expected = sum(value in values["train"] for value in values["val"] + values["test"])
    assert data.cache_entry().meta["duplicates"] == expected > 0
    assert f"{expected} images of val and test are exact copies" in capsys.readouterr().err


def test_the_preset_of_faces_takes_a_folder(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    config = Path(__file__).parents[2] / "configs/faces/gan.yaml"
    arguments = ["fit", "-c", str(config), "--data", "ImageFolder", "--data.init_args.root", "my-photos/", "--print_config"]
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0
    preset, printed = yaml.safe_load(config.read_text())["data"]["init_args"], yaml.safe_load(capsys.readouterr().out)["data"]
    assert printed["class_path"].endswith("ImageFolder")
    assert printed["init_args"]["root"] == "my-photos/"
    assert printed["init_args"]["augment"]["flip"]
    assert {key: printed["init_args"][key] for key in ("size", "batch_size")} == {
        key: preset[key] for key in ("size", "batch_size")
    }
