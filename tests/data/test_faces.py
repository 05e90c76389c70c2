"""Faces: every kind of picture converts, every kind of damage is named, splits and labels are fixed."""

import io
import json
import struct
import tarfile
import zipfile
import zlib
from itertools import islice
from pathlib import Path

import joblib
import numpy as np
import pytest
from genai.data.faces import CELEBA_ATTRIBUTES, Faces, decode, fields, label_of, split_by_hash
from PIL import Image

from genai.data import archives
from genai.data.base import data_roots
from genai.errors import UserError

UTKFACE = next((path for root in data_roots(None) if (path := root / "utkface" / "UTKFace.tar.gz").is_file()), None)
RED = (200, 30, 60)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path / "cache"))


def encoded(image: Image.Image, format: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def plain(color=RED, side: int = 8) -> Image.Image:
    return Image.new("RGB", (side, side), color)


def utk_files(num: int = 20) -> dict[str, bytes]:
    """Pictures under UTKFace's names, each of its own grey; the label of the i-th follows from i."""
    return {
        f"UTKFace/{i * 4 + 1}_{i % 2}_{i % 5}_201701{i:02d}.jpg.chip.jpg": encoded(plain((i * 10,) * 3), "JPEG", quality=100)
        for i in range(num)
    }


def write(path: Path, files: dict[str, bytes]) -> Path:
    """`files` as a folder, zip or tar, by the path's ending."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    elif path.suffix in (".gz", ".tar"):
        with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    else:
        for name, content in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    return path


# -- pictures ------------------------------------------------------------------------------------------------------------


def cmyk_jpeg() -> bytes:
    return encoded(plain().convert("CMYK"), "JPEG", quality=100)


def sixteen_bits() -> bytes:
    return encoded(Image.fromarray(np.full((8, 8), 128 * 257, np.uint16)))


def palette_with_transparency() -> bytes:
    image = plain().quantize(4)
    return encoded(image, transparency=image.getpixel((0, 0)))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (encoded(plain()), RED),
        (encoded(plain(), "BMP"), RED),
        (encoded(plain(), "WEBP", lossless=True), RED),
        (encoded(Image.new("L", (8, 8), 77)), (77, 77, 77)),
        (encoded(Image.new("1", (8, 8), 1)), (255, 255, 255)),
        (encoded(plain().quantize(4)), RED),
        (encoded(plain(), "GIF"), RED),
        (palette_with_transparency(), (255, 255, 255)),
        (encoded(Image.new("RGBA", (8, 8), (*RED, 0))), (255, 255, 255)),
        (encoded(Image.new("RGBA", (8, 8), (0, 0, 0, 128))), (127, 127, 127)),
        (encoded(Image.new("LA", (8, 8), (0, 128))), (127, 127, 127)),
        (cmyk_jpeg(), RED),
        (sixteen_bits(), (128, 128, 128)),
        (encoded(Image.fromarray(np.full((8, 8), 128 * 257, np.uint16)), "TIFF"), (128, 128, 128)),
    ],
    ids=[
        "rgb",
        "bmp",
        "webp",
        "grey",
        "bilevel",
        "palette",
        "gif",
        "clear-palette",
        "clear",
        "half",
        "grey-alpha",
        "cmyk",
        "16-bit",
        "16-bit-tiff",
    ],
)
def test_every_mode_converts(content: bytes, expected: tuple[int, int, int]) -> None:
    pixels = decode(content, 4, 3)
    assert pixels.shape == (3, 4, 4)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - np.array(expected)[:, None, None]).max() <= 3
    assert decode(content, 4, 1).shape == (1, 4, 4)


def test_the_central_square_is_kept() -> None:
    image = Image.new("RGB", (24, 8), "black")
    image.paste(RED, (8, 0, 16, 8))
    assert (decode(encoded(image), 8, 3) == np.array(RED)[:, None, None]).all()


def test_resizing_is_antialiased() -> None:
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(decode(encoded(Image.fromarray(stripes)), 8, 1)[0, 2:-2, 2:-2].astype(int) - 127).max() < 6


def test_exif_rotation_is_applied() -> None:
    image = Image.new("RGB", (8, 8), "black")
    image.paste("white", (0, 0, 8, 4))  # white above
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: white on the right
    pixels = decode(encoded(image, "JPEG", exif=exif, quality=100), 8, 1)[0]
    assert pixels[:, 6:].min() > 200
    assert pixels[:, :2].max() < 50


def bomb() -> bytes:
    """A PNG that says it has 20,000 x 20,000 pixels."""
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + encoded(plain())[33:]


BROKEN = {
    "empty.jpg": b"",
    "text.jpg": b"this is no picture",
    "cut.jpg": encoded(Image.effect_noise((64, 64), 90), "JPEG")[:-600],
    "cut.png": encoded(Image.effect_noise((64, 64), 90))[:-900],
    "bomb.png": bomb(),
}


def test_unreadable_pictures_are_left_out_counted_and_listed(tmp_path, capsys) -> None:
    good = utk_files()
    faces = Faces(str(write(tmp_path / "photos", {**good, **BROKEN})), size=8)
    splits = [faces.split(split) for split in ("train", "val", "test")]
    assert sum(map(len, splits)) == len(good)
    skipped = faces.stored().meta["skipped"]
    assert {line.split(":")[0] for line in skipped} == set(BROKEN)
    assert "left out 5 of 25 pictures" in capsys.readouterr().err
    greys = sorted(round(float(image.mean()), -1) for split in splits for image in split.images)
    assert greys == [i * 10 for i in range(20)]  # no row is lost, doubled or black


@pytest.mark.parametrize("name", BROKEN)
def test_strict_refuses_unreadable_pictures_by_name(tmp_path, name: str) -> None:
    source = write(tmp_path / "photos.zip", {**utk_files(), name: BROKEN[name]})
    with pytest.raises(UserError, match=rf"photos.zip .*{name}.*strict"):
        Faces(str(source), size=8, strict=True).prepare_data()


# -- folders and archives ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", ".zip", ".tar", ".tar.gz"])
def test_folder_zip_and_tar_hold_the_same_pictures(tmp_path, ending: str) -> None:
    junk = {
        "__MACOSX/UTKFace/._1_0_0_20170101.jpg": b"x",
        "UTKFace/._a.jpg": b"x",
        "UTKFace/.DS_Store": b"x",
        "readme.txt": b"x",
    }
    reference = Faces(str(write(tmp_path / "reference", utk_files())), size=8, labels="age_group")
    faces = Faces(str(write(tmp_path / f"photos{ending}", {**junk, **utk_files()})), size=8, labels="age_group", strict=True)
    for split in ("train", "val", "test"):
        assert np.array_equal(faces.split(split).images, reference.split(split).images)
        assert np.array_equal(faces.split(split).labels, reference.split(split).labels)
    assert faces.stored().meta["skipped"] == []


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".zip"])
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_truncated_archives_are_refused(tmp_path, ending: str, share: float) -> None:
    path = write(tmp_path / f"photos{ending}", utk_files())
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(UserError, match=rf"photos{ending} is damaged or truncated"):
        Faces(str(path)).prepare_data()


def test_a_tar_cut_between_two_members_is_refused(tmp_path) -> None:
    path = write(tmp_path / "photos.tar", utk_files())
    with tarfile.open(path) as archive:
        cut = archive.getmembers()[10].offset
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UserError, match="truncated"):
        Faces(str(path)).prepare_data()


@pytest.mark.parametrize("name", ["../evil.jpg", "/etc/evil.jpg", "a/../../evil.jpg", "..\\evil.jpg", "C:\\evil.jpg"])
@pytest.mark.parametrize("ending", [".zip", ".tar"])
def test_members_that_escape_are_refused_by_name(tmp_path, name: str, ending: str) -> None:
    path = write(tmp_path / f"photos{ending}", {**utk_files(3), name: encoded(plain())})
    with pytest.raises(UserError, match=r"escapes its folder, .*evil\.jpg"):
        Faces(str(path)).prepare_data()
    assert not list(tmp_path.rglob("evil.jpg"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_in_a_tar_are_refused(tmp_path, kind: bytes) -> None:
    member = tarfile.TarInfo("link.jpg")
    member.type, member.linkname = kind, "/etc/passwd"
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        archive.addfile(member)
    with pytest.raises(UserError, match=r"no plain file, 'link\.jpg'"):
        Faces(str(tmp_path / "photos.tar")).prepare_data()


def test_links_in_a_zip_are_refused(tmp_path) -> None:
    member = zipfile.ZipInfo("link.jpg")
    member.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(UserError, match=r"no plain file, 'link\.jpg'"):
        Faces(str(tmp_path / "photos.zip")).prepare_data()


def test_a_damaged_member_of_a_zip_is_left_out(tmp_path) -> None:
    files = utk_files()
    path = write(tmp_path / "photos.zip", files)
    content = bytearray(path.read_bytes())
    content[content.index(files["UTKFace/1_0_0_20170100.jpg.chip.jpg"]) + 20] ^= 255
    path.write_bytes(content)
    assert "Bad CRC" in Faces(str(path), size=8).stored().meta["skipped"][0]


def test_oversized_members_are_left_out(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(archives, "MAX_BYTES", 5000)
    large = {"large.bmp": encoded(plain(side=64), "BMP")}
    for ending in ("", ".zip", ".tar"):
        faces = Faces(str(write(tmp_path / f"photos{ending}", {**utk_files(), **large})), size=8)
        assert faces.stored().meta["skipped"][0].startswith("large.bmp: larger than")


def test_what_is_not_there_or_empty_is_named(tmp_path) -> None:
    with pytest.raises(UserError, match="no folder or archive nowhere"):
        Faces("nowhere", root=str(tmp_path)).prepare_data()
    with pytest.raises(UserError, match=r"UTKFace\.tar\.gz .*susanqq.*Avatars"):
        Faces("utkface", root=str(tmp_path)).prepare_data()
    for path in (
        write(tmp_path / "a.zip", {"readme.txt": b""}),
        write(tmp_path / "a.tar", {}),
        write(tmp_path / "a", {"b.txt": b""}),
    ):
        with pytest.raises(UserError, match="has no pictures"):
            Faces(str(path)).prepare_data()
    with pytest.raises(UserError, match="no readable picture for"):
        Faces(str(write(tmp_path / "broken", BROKEN))).prepare_data()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match=r"notes\.txt is no folder"):
        Faces(str(tmp_path / "notes.txt")).prepare_data()


def test_a_source_below_the_data_folder_is_found_and_a_change_is_noticed(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("GENAI_DATA", str(tmp_path))
    write(tmp_path / "photos", utk_files(10))
    assert len(Faces("photos", size=8).stored().labels) == 10
    write(tmp_path / "photos", utk_files(12))
    assert len(Faces("photos", size=8).stored().labels) == 12


# -- labels and splits ---------------------------------------------------------------------------------------------------


def test_the_fields_of_utkface_names() -> None:
    assert fields("25_1_3_20170116.jpg") == (25, 1, 3)
    assert fields("24_0_1_20170116220224657 .jpg.chip.jpg") == (24, 0, 1)
    assert fields("61_1_20170109142408075.jpg.chip.jpg") == (61, 1, None)
    assert fields("__3_2017.jpg") == (None, None, 3)
    assert fields("holiday.jpg") == (None, None, None)


def test_labels_follow_the_documented_order() -> None:
    name = "UTKFace/66_1_2_20170116.jpg"
    assert label_of(name, "gender") == 1
    assert label_of(name, "ethnicity") == 2
    assert label_of(name, "attributes") == [0, 0, 1, 0, 0, 1, 0, 0]
    assert label_of("5_0_0_2017.jpg", "attributes") == [1, 1, 0, 1, 0, 0, 0, 0]
    ages = [label_of(f"{age}_0_0_2017.jpg", "age_group") for age in (0, 12, 13, 19, 20, 39, 40, 59, 60, 116)]
    assert ages == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_a_missing_field_matters_only_where_it_is_needed(tmp_path) -> None:
    source = write(tmp_path / "photos", {**utk_files(), "61_1_20170109142408075.jpg": encoded(plain(), "JPEG")})
    assert len(Faces(str(source), size=8, labels="gender", strict=True).stored().labels) == 21
    faces = Faces(str(source), size=8, labels="ethnicity", strict=True)
    assert len(faces.stored().labels) == 20
    assert faces.stored().meta["skipped"] == ["61_1_20170109142408075.jpg: no ethnicity in its name"]
    assert faces.num_classes == 5


def test_labels_belong_to_their_pictures(tmp_path) -> None:
    source = write(tmp_path / "photos.tar.gz", {**BROKEN, **utk_files()})
    faces = Faces(str(source), size=8, labels="attributes")
    assert faces.label_kind == "attributes"
    for split in ("train", "val", "test"):
        images, labels = faces.split(split).images, faces.split(split).labels
        assert labels.dtype == np.float32
        for image, label in zip(images, labels, strict=True):
            i = round(float(image.mean()) / 10)
            assert label[0] == (i % 2 == 0)
            assert np.argmax(label[3:]) == i % 5


def test_a_picture_stays_in_its_split() -> None:
    names = [f"{i}.jpg" for i in range(3000)]
    splits = split_by_hash(names)
    assert [len(splits[split]) / 3000 for split in ("train", "val", "test")] == pytest.approx([0.8, 0.1, 0.1], abs=0.02)
    assert split_by_hash([f"folder/{name}" for name in reversed(names)])["val"] == [f"folder/{name}" for name in splits["val"]]
    fewer = split_by_hash(names[:500])
    for split in fewer:
        assert set(fewer[split]) <= set(splits[split])
    assert splits["test"][:3] == ["1402.jpg", "991.jpg", "1617.jpg"]  # the same on every machine


def test_three_pictures_make_three_splits(tmp_path) -> None:
    assert all(len(names) == 1 for names in split_by_hash("abc").values())
    with pytest.raises(UserError, match="needs three"):
        Faces(str(write(tmp_path / "photos", utk_files(2)))).prepare_data()


def test_labels_that_a_source_lacks_are_refused_at_once() -> None:
    with pytest.raises(UserError, match="olivetti has no labels 'gender'"):
        Faces("olivetti", labels="gender")


# -- known sources -------------------------------------------------------------------------------------------------------


def celeba(root: Path, num: int = 10) -> Path:
    """CelebA's files in torchvision's layout: picture i has grey 10 i; the first attribute alternates."""
    names = [f"{i + 1:06d}.jpg" for i in range(num)]
    rows = [" ".join([name, "1" if i % 2 else "-1", *["-1"] * 39]) for i, name in enumerate(names)]
    write(root / "celeba" / "img_align_celeba", {n: encoded(plain((i * 10,) * 3), "JPEG") for i, n in enumerate(names)})
    (root / "celeba" / "list_attr_celeba.txt").write_text("\n".join([str(num), " ".join(CELEBA_ATTRIBUTES), *rows]))
    parts = [f"{name} {2 if i >= 8 else 1 if i >= 6 else 0}" for i, name in enumerate(names)]
    (root / "celeba" / "list_eval_partition.txt").write_text("\n".join(parts))
    return root


def test_celeba_has_its_official_split_and_attributes(tmp_path) -> None:
    faces = Faces("celeba", size=8, labels="attributes", root=str(celeba(tmp_path)))
    assert faces.num_classes == 40
    assert [len(faces.split(split)) for split in ("train", "val", "test")] == [6, 2, 2]
    assert [round(float(image.mean()), -1) for image in faces.split("test").images] == [80, 90]
    assert faces.split("train").labels[:, 0].tolist() == [0, 1, 0, 1, 0, 1]


def test_celeba_without_a_list_or_pictures_is_named(tmp_path) -> None:
    root = celeba(tmp_path)
    (root / "celeba" / "img_align_celeba" / "000001.jpg").unlink()
    faces = Faces("celeba", size=8, root=str(root))
    assert faces.stored().meta["skipped"] == ["000001.jpg: missing"]
    (root / "celeba" / "list_attr_celeba.txt").unlink()
    with pytest.raises(UserError, match=r"list_attr_celeba\.txt is missing"):
        Faces("celeba", labels="attributes", root=str(root)).prepare_data()


def test_celeba_without_a_network_says_what_to_put_where(tmp_path, monkeypatch) -> None:
    def offline(*args, **kwargs):
        raise RuntimeError("no network")

    monkeypatch.setattr("torchvision.datasets.CelebA", offline)
    with pytest.raises(UserError, match=r"no network.*img_align_celeba\.zip.*Avatars"):
        Faces("celeba", root=str(tmp_path)).prepare_data()


def test_olivetti_has_forty_people_in_every_split(tmp_path) -> None:
    pixels = (np.arange(400)[:, None] % 256 / 255 * np.ones(4096)).astype(np.float32)
    (tmp_path / "olivetti").mkdir()
    joblib.dump(pixels, tmp_path / "olivetti" / "olivetti_py3.pkz")
    faces = Faces("olivetti", channels=1, labels="person", root=str(tmp_path))
    for split, num in {"train": 8, "val": 1, "test": 1}.items():
        assert (np.bincount(faces.split(split).labels) == num).all()
    assert faces.split("val").images[3, 0, 5, 5] == 38
    (tmp_path / "olivetti" / "olivetti_py3.pkz").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"olivetti_py3\.pkz is damaged"):
        Faces("olivetti", root=str(tmp_path)).prepare_data()


@pytest.mark.skipif(UTKFACE is None, reason="UTKFace.tar.gz is not in GENAI_DATA")
def test_utkface_names_have_labels_and_its_pictures_decode() -> None:
    some = list(islice(archives.pictures(UTKFACE), 300))
    assert sum(label_of(picture.name, "attributes") is None for picture in some) <= 3
    assert all(decode(picture.content, 32, 3).std() > 5 for picture in some)


def test_the_cache_lists_its_pictures_as_json(tmp_path) -> None:
    faces = Faces(str(write(tmp_path / "photos", {**utk_files(), "empty.jpg": b""})), size=8)
    faces.prepare_data()
    meta = next((tmp_path / "cache").rglob("meta.json"))
    assert json.loads(meta.read_text())["skipped"] == ["empty.jpg: empty file"]
