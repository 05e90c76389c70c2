"""More odd archives, folders, names, label files and configs: each is used as expected, or refused in one line."""

import os
import unicodedata
import zipfile
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from genai.cli import main
from genai.data import CelebA, Digits, ImageFolder, UTKFace, workers
from genai.data.celeba import ATTRIBUTES
from genai.data.utkface import parse_name
from genai.errors import UserError
from genai.models.vae.vae import VAE
from genai.networks.autoencoder import MLPDecoder, MLPEncoder
from tests.data.photographs import encoded, plain, utk_files, write

CONFIGS = Path(__file__).parents[2] / "configs"
GOOD = {f"{i}.png": encoded(plain((i, 2 * i, 255 - i))) for i in range(100, 120)}
PNG, JPEG = encoded(plain()), encoded(plain(), "JPEG")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path / "cache"))


# -- archives ------------------------------------------------------------------------------------------------------------


def with_backslashes(path: Path, files: dict[str, bytes]) -> Path:
    """A zip as some Windows programs write it."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    content = path.read_bytes()
    for name in files:
        content = content.replace(name.encode(), name.replace("/", "\\").encode())
    path.write_bytes(content)
    return path


def test_backslashes_in_a_zip_are_folders(tmp_path: Path) -> None:
    source = with_backslashes(tmp_path / "photos.zip", {f"p{i % 4}/{name}": png for i, (name, png) in enumerate(GOOD.items())})
    assert len(ImageFolder(str(source), size=8, group_by="folder").cache_entry().labels) == len(GOOD)
    faces = with_backslashes(tmp_path / "faces.zip", utk_files())
    assert UTKFace(root=str(faces), size=8, labels="gender").cache_entry().meta["skipped"] == []


@pytest.mark.parametrize(
    ("made", "named"), [(".tar.gz", ".tar"), (".tar", ".tar.gz"), (".tar", ".tgz"), (".tar.gz", ".tar.xz")]
)
def test_a_tar_is_read_by_its_content(tmp_path: Path, made: str, named: str) -> None:
    source = write(tmp_path / f"photos{made}", GOOD).rename(tmp_path / f"other{named}")
    assert len(ImageFolder(str(source), size=8).cache_entry().labels) == len(GOOD)


@pytest.mark.parametrize("ending", [".zip", ".tar"])
def test_a_name_that_an_archive_has_twice_is_one_image(tmp_path: Path, ending: str) -> None:
    source = tmp_path / f"photos{ending}"
    write(source, GOOD)
    if ending == ".zip":
        with zipfile.ZipFile(source, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("100.png", PNG)
        assert len(ImageFolder(str(source), size=8).cache_entry().labels) == len(GOOD)
    else:
        doubled = write(tmp_path / "x.tar", GOOD).read_bytes()
        source.write_bytes(source.read_bytes()[: 1024 * len(GOOD)] + doubled)
        assert len(ImageFolder(str(source), size=8).cache_entry().labels) == len(GOOD)


def test_archives_in_an_archive_and_resource_forks(tmp_path: Path) -> None:
    forks = {f"__MACOSX/._{name}": b"\0\5\x16\7" for name in GOOD} | {f"._{name}": b"\0\5\x16\7" for name in GOOD}
    source = write(tmp_path / "photos.zip", {**GOOD, **forks, "inner.zip": b"PK\3\4", "inner.tar.gz": b"\x1f\x8b"})
    entry = ImageFolder(str(source), size=8).cache_entry()
    assert len(entry.labels) == len(GOOD)
    assert entry.meta["ignored"] == {".zip": 1, ".gz": 1}


@pytest.mark.parametrize("name", ["photos.rar", "photos.7z", "photos.zip", "photos.tar", "photos.tar.gz"])
@pytest.mark.parametrize("content", [b"", b"Rar!\x1a\7\0", b"7z\xbc\xaf\x27\x1c", PNG], ids=["empty", "rar", "7z", "png"])
def test_files_that_are_no_archive(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=name) as caught:
        ImageFolder(str(tmp_path / name), size=8).prepare_data()
    assert "\n" not in str(caught.value)


# -- folders -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ["x" * 240 + ".png"],
        ["trail.png ", "trail.png"],
        ["quote'\".png", "$(rm -rf).png", "percent%s%d.png", "{brace}.png", "*.png"],
        [f"{unicodedata.normalize(form, 'ü')}.png" for form in ("NFC", "NFD")],
        ["A.png", "a.png", "A.PNG"],
        ["/".join("abcdefgh" * 12) + "/x.png"],
    ],
    ids=["long", "trailing-space", "shell", "unicode-forms", "case", "deep"],
)
def test_odd_names_are_names(tmp_path: Path, names: list[str]) -> None:
    source = write(tmp_path / "photos", GOOD | dict.fromkeys(names, PNG))
    assert len(ImageFolder(str(source), size=8).cache_entry().labels) == len(GOOD) + len(names)


def test_hard_links_empty_folders_and_panoramas(tmp_path: Path) -> None:
    source = write(tmp_path / "photos", {**GOOD, "wide.png": encoded(Image.effect_noise((20000, 2), 50))})
    os.link(source / "100.png", source / "again.png")
    (source / "empty").mkdir()
    assert len(ImageFolder(str(source), size=8).cache_entry().labels) == len(GOOD) + 2


def test_a_thousand_folders_of_one_picture(tmp_path: Path) -> None:
    source = write(tmp_path / "photos.tar", {f"{i:04d}/front.png": PNG for i in range(1000)})
    sizes = [len(ImageFolder(str(source), size=4, group_by="folder").split(split)) for split in ("train", "val", "test")]
    assert sum(sizes) == 1000
    assert min(sizes) > 50


def test_a_file_that_may_not_be_read_is_skipped_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "photos", GOOD)
    opened = open

    def refuse(path: str, *arguments: object, **options: object) -> object:
        if str(path).endswith("100.png"):
            raise PermissionError(13, "Permission denied", path)
        return opened(path, *arguments, **options)

    monkeypatch.setattr("genai.data.archives.open", refuse, raising=False)
    assert ImageFolder(str(source), size=8).cache_entry().meta["skipped"] == ["100.png: Permission denied"]


@pytest.mark.parametrize("root", ["", "  ", "nowhere", "~nobody/photos", "a" * 5000])
def test_a_root_that_is_none(root: str, workspace: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = ["--data", "ImageFolder", f"--data.init_args.root={root}", "--data.init_args.size", "8"]
    assert main(["fit", "-c", str(CONFIGS / "digits/gan.yaml"), *arguments, "--data.init_args.channels", "1"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert list(workspace.iterdir()) == []


# -- labels --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "age"),
    [
        ("0_0_0_1.jpg", 0),
        ("116_1_4_2.jpg", 116),
        ("-5_0_0_3.jpg", None),
        ("abc_0_0_4.jpg", None),
        ("999_0_0_5.jpg", None),
        ("25.5_0_0_6.jpg", None),
        ("٣_0_0_7.jpg", None),
        ("25.jpg", None),
        ("__.jpg", None),
        ("", None),
        ("121_0_0.jpg", None),
    ],
)
def test_ages_in_names(name: str, age: int | None) -> None:
    assert parse_name(name)[0] == age


@pytest.mark.parametrize(
    ("lists", "missing"),
    [("short", 4), ("long", 0), ("twice", 0), ("columns", 4)],
)
def test_lists_of_celeba_with_other_rows(tmp_path: Path, lists: str, missing: int) -> None:
    names = [f"{i:06d}.jpg" for i in range(16)]
    rows = [f"{name} {' '.join(['1', '-1'] * 20)}" for name in names]
    rows = {"short": rows[:12], "long": [*rows, *(row.replace("0000", "9999") for row in rows)]}.get(lists, rows)
    rows = {"twice": [*rows, rows[0]], "columns": [*rows[:12], *(row + " 1" for row in rows[12:])]}.get(lists, rows)
    files = {f"celeba/img_align_celeba/{name}": JPEG for name in names}
    files["celeba/list_eval_partition.txt"] = "".join(f"{name} {i % 3}\n" for i, name in enumerate(names)).encode()
    files["celeba/list_attr_celeba.txt"] = f"16\n{' '.join(ATTRIBUTES)}\n{chr(10).join(rows)}\n".encode()
    entry = CelebA(root=str(write(tmp_path, files)), size=8, labels="attributes").cache_entry()
    assert len(entry.labels) == 16 - missing
    assert len(entry.meta["skipped"]) == missing


# -- configs and options -------------------------------------------------------------------------------------------------

TEXTS = {
    "tabs": ("model:\n\tinit_args: {}\n", "not valid YAML"),
    "key-twice": ("data:\n  init_args: {}\ndata:\n  init_args: {}\n", "twice"),
    "two-documents": ("seed_everything: 1\n---\nseed_everything: 2\n", "not valid YAML"),
    "object": ("model: !!python/object:os.system x\n", "not valid YAML"),
    "list": ("- a\n- b\n", "no `option: value` lines"),
    "nothing": ("# a comment\n", "empty"),
    "empty-section": ("data:\n", "nothing below `data`"),
    "empty-init-args": ("model:\n  init_args:\n", "nothing below `model.init_args`"),
    "yes": ("data:\n  init_args:\n    batch_size: yes\n", "batch_size"),
    "fraction": ("data:\n  init_args:\n    batch_size: 64.5\n", "batch_size"),
    "unknown": ("data:\n  init_args:\n    batchsize: 64\n", "did you mean"),
    "text": ("trainer:\n  max_epochs: many\n", "max_epochs"),
    "precision": ("trainer:\n  precision: fp16\n", "precision"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_odd_configs_are_refused_in_one_line(name: str, workspace: Path, capsys: pytest.CaptureFixture) -> None:
    text, message = TEXTS[name]
    Path("odd.yaml").write_text(text)
    assert main(["fit", "-c", str(CONFIGS / "digits/gan.yaml"), "-c", "odd.yaml"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line
    assert os.listdir() == ["odd.yaml"]


def test_loader_processes_need_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "SHARED_MEMORY", str(tmp_path))
    workers.check_shared_memory(4, 1000)
    with pytest.raises(UserError, match="num_workers 4 needs"):
        workers.check_shared_memory(4, 10**15)
    workers.check_shared_memory(0, 10**15)


def test_loader_processes_end_after_sigterm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "GRACE", 1)
    loader = Digits(batch_size=32, num_workers=1).val_dataloader()
    batches = iter(loader)
    next(batches)
    [process] = batches._workers
    process.terminate()

    def read_on() -> None:
        process.join(20)
        list(batches)

    with pytest.raises(RuntimeError, match="DataLoader worker"):  # while joining or reading: when the system says so
        read_on()
    process.join(20)
    assert process.exitcode is not None


def test_a_bernoulli_likelihood_of_colour_is_refused() -> None:
    with pytest.raises(UserError, match="Bernoulli"):
        VAE((3, 8, 8), 0, partial(MLPEncoder, hidden=[4]), partial(MLPDecoder, hidden=[4]))
    VAE((1, 8, 8), 0, partial(MLPEncoder, hidden=[4]), partial(MLPDecoder, hidden=[4]))
