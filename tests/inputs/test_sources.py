"""Odd folders and archives: which files are images, which are counted, which are refused, and their splits."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from genai.data import CelebA, ImageFolder, UTKFace
from genai.data.archives import list_files
from genai.data.celeba import ATTRIBUTES
from genai.data.photos import split_by_group, split_by_hash
from genai.errors import UserError
from tests.data.photographs import encoded, plain, utk_files, write
from tests.inputs.pictures import PICTURES, heic

GOOD = {f"{i}.png": encoded(plain((i, 2 * i, 255 - i))) for i in range(100, 120)}
PNG, JPEG = encoded(plain()), encoded(plain(), "JPEG")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path / "cache"))


NAMES = {  # name: content, and whether it is an image
    "without-ending": (JPEG, True),
    "hash.5f2a": (PNG, True),
    "CAPITALS.JPG": (JPEG, True),
    "a.b.c.jpeg": (JPEG, True),
    "space in name.png": (PNG, True),
    "größe-写真-😀.png": (PNG, True),
    "new\nline.png": (PNG, True),
    "-rf.png": (PNG, True),
    "deep/er/and/deeper/x.png": (PNG, True),
    "numbers/7": (encoded(plain(), "WEBP"), True),
    "bitmap.dat": (encoded(plain(), "BMP"), True),
    "jpeg-2000": (encoded(plain(), "JPEG2000"), True),
    "grey-map": (PICTURES["ascii.pgm"].content, True),
    ".hidden.png": (PNG, False),
    ".thumbnails/x.png": (PNG, False),
    "x/@eaDir/x.png": (PNG, False),
    "__MACOSX/x.png": (PNG, False),
    "Thumbs.db": (PNG, False),
}
IGNORED = {
    "photo.heic": heic(),
    "heic-without-ending": heic(),
    "notes.txt": b"BMW P1 Python II GIF",
    "readme": b"Pillow reads this folder",
    "P1": b"P1 is a name",
    "BM": b"BM, or BMI: text",
    "raw.dng": encoded(plain(), "TIFF"),
    "raw.CR2": encoded(plain(), "TIFF"),
    "clip.thm": JPEG,
    "photo.jpg.bak": JPEG,
    "photo.jpg~": JPEG,
    "loading.jpg.crdownload": JPEG[:100],
    "movie.mp4": b"\0\0\0\x18ftypmp42",
    "drawing.svg": b"<svg/>",
    "page.eps": PICTURES["script.jpg"].content,
    "other.zip": b"PK\3\4",
    "nothing": b"",
}


@pytest.mark.parametrize("ending", ["", ".zip", ".tar"])
def test_images_are_found_by_their_content(tmp_path: Path, ending: str) -> None:
    files = {name: content for name, (content, _) in NAMES.items()}
    listing = list_files(write(tmp_path / f"photos{ending}", {**files, **IGNORED}))
    assert set(listing.names) == {name for name, (_, is_image) in NAMES.items() if is_image}
    assert sum(listing.ignored.values()) == len(IGNORED)
    assert listing.ignored[".heic"] == 1
    assert listing.ignored["without ending"] == 5


def test_ignored_files_are_reported_in_one_line_with_the_plugin(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source = write(tmp_path / "photos", {**GOOD, **{f"{i}.heic": heic() for i in range(95)}, "a.txt": b"x"})
    data = ImageFolder(str(source), size=8)
    data.prepare_data()
    assert "ignored 95 .heic, 1 .txt (pip install pillow-heif" in capsys.readouterr().err
    assert data.describe().endswith("images, 96 ignored")
    with pytest.raises(UserError, match=r"no pictures \(ignored 3 \.heic .*pillow-heif"):
        ImageFolder(str(write(tmp_path / "phone", {f"{i}.heic": heic() for i in range(3)}))).prepare_data()


def not_utf8(folder: Path) -> None:
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(PNG)
    (folder / os.fsdecode(b"caf\xe8.png")).write_bytes(b"broken")


def special_files(folder: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    os.mkfifo(folder / "pipe")
    (folder / "device.png").symlink_to("/dev/zero")
    (folder / "gone.png").symlink_to(folder / "nowhere")
    (folder / "itself.png").symlink_to(folder / "itself.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(folder / "socket.png"))


def folder_like_a_picture(folder: Path) -> None:
    (folder / "album.jpg").mkdir()
    (folder / "album.jpg" / "x.png").write_bytes(PNG)


def links(folder: Path) -> None:
    write(folder.parent / "elsewhere", {"x.png": PNG})
    for name in ("first", "second"):
        (folder / name).symlink_to(folder.parent / "elsewhere")
    (folder / "loop").symlink_to(folder)


@pytest.mark.parametrize(
    ("change", "more", "skipped"),
    [
        (not_utf8, 1, ["caf\\xe8.png: damaged, or not a picture"]),
        (special_files, 0, []),
        (folder_like_a_picture, 1, []),
        (links, 1, []),
    ],
    ids=["not-utf8", "special-files", "folder-like-a-picture", "links"],
)
def test_odd_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], more: int, skipped: list[str]
) -> None:
    folder = write(tmp_path / "photos", GOOD)
    monkeypatch.chdir(tmp_path)
    change(folder)
    data = ImageFolder(str(folder), size=8)
    assert len(data.cache_entry().labels) == len(GOOD) + more
    assert data.cache_entry().meta["skipped"] == skipped
    assert data.fingerprint("train") == ImageFolder(str(folder), size=8).fingerprint("train")


def test_a_folder_whose_name_is_not_utf8(tmp_path: Path) -> None:
    folder = write(tmp_path / os.fsdecode(b"caf\xe9"), GOOD)
    assert len(ImageFolder(str(folder), size=8).cache_entry().labels) == len(GOOD)


@pytest.mark.parametrize("kind", ["pipe", "device", "text", "picture"])
def test_a_source_that_is_no_folder_or_archive_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "photos.zip"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes(b"text" if kind == "text" else PNG)
    with pytest.raises(UserError, match=r"zero|photos\.zip") as caught:
        ImageFolder(str(path)).prepare_data()
    assert "\n" not in str(caught.value)


# -- splits --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num", [3, 4, 5, 6, 7, 10, 19, 40, 99, 300])
@pytest.mark.parametrize("layout", ["{}.jpg", "img ({}).png", "p{}/front.jpg", "{:08d}"])
def test_small_sets_have_balanced_splits(num: int, layout: str) -> None:
    splits = split_by_hash([layout.format(i) for i in range(num)], str)
    sizes = {name: len(part) for name, part in splits.items()}
    assert sum(sizes.values()) == len(set().union(*splits.values())) == num
    for part in ("val", "test"):
        assert (2 if num >= 6 else 1) <= sizes[part] <= max(2, num / 5)
        assert sizes[part] >= num // 20


@pytest.mark.parametrize("large", range(4))
def test_the_largest_folder_is_not_left_to_a_small_split(large: int) -> None:
    names = [f"{folder}/{i}" for folder in range(4) for i in range(97 if folder == large else 1)]
    splits = split_by_group(names, lambda name: name.split("/")[0])
    assert len(splits["train"]) >= 97
    assert min(map(len, splits.values())) == 1


@pytest.mark.parametrize("num", [0, 1, 2])
def test_too_few_images_are_refused_in_one_line(tmp_path: Path, num: int) -> None:
    source = write(tmp_path / "photos", {**dict(list(GOOD.items())[:num]), "a.txt": b"x"})
    with pytest.raises(UserError, match=r"1 \.txt") as caught:
        ImageFolder(str(source), size=8).prepare_data()
    assert "\n" not in str(caught.value)


# -- other modules -------------------------------------------------------------------------------------------------------


def test_utkface_counts_what_is_no_face(tmp_path: Path) -> None:
    write(tmp_path, {**utk_files(), "UTKFace/x.heic": heic(), "UTKFace/readme": b"x"})
    data = UTKFace(root=str(tmp_path), size=8, labels="gender")
    assert data.cache_entry().meta["ignored"] == {".heic": 1, "without ending": 1}
    assert len(data.cache_entry().labels) == 20


@pytest.mark.parametrize("text", ["crlf", "bom", "blank"])
def test_label_files_of_celeba(tmp_path: Path, text: str) -> None:
    names = [f"{i:06d}.jpg" for i in range(12)]
    partition = "".join(f"{name} {i % 3}\n" for i, name in enumerate(names))
    attributes = f"12\n{' '.join(ATTRIBUTES)}\n" + "".join(f"{name} {' '.join(['1', '-1'] * 20)}\n" for name in names)
    odd = {"crlf": lambda s: s.replace("\n", "\r\n"), "bom": lambda s: "\ufeff" + s, "blank": lambda s: s + "\n\n  \n"}[text]
    files = {f"celeba/img_align_celeba/{name}": JPEG for name in names}
    lists = {"list_eval_partition.txt": partition, "list_attr_celeba.txt": attributes}
    write(tmp_path, files | {f"celeba/{name}": odd(content).encode() for name, content in lists.items()})
    data = CelebA(root=str(tmp_path), size=8, labels="attributes")
    assert [len(data.split(split)) for split in ("train", "val", "test")] == [4, 4, 4]
    assert data.split("train").labels[0].tolist() == [1.0, 0.0] * 20
    assert data.cache_entry().meta["skipped"] == []
