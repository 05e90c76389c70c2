"""CelebA: the official split and attributes."""

from pathlib import Path

import pytest

from genai.data.augment import Augment
from genai.data.celeba import ATTRIBUTES, CelebA
from genai.errors import UserError
from tests.data.photographs import encoded, plain, write


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path / "cache"))


def make_celeba(root: Path, num: int = 10) -> Path:
    """CelebA's files in torchvision's layout: picture i has grey 10 i; the first attribute alternates."""
    names = [f"{i + 1:06d}.jpg" for i in range(num)]
    rows = [" ".join([name, "1" if i % 2 else "-1", *["-1"] * 39]) for i, name in enumerate(names)]
    write(root / "celeba" / "img_align_celeba", {n: encoded(plain((i * 10,) * 3), "JPEG") for i, n in enumerate(names)})
    (root / "celeba" / "list_attr_celeba.txt").write_text("\n".join([str(num), " ".join(ATTRIBUTES), *rows]))
    parts = [f"{name} {2 if i >= 8 else 1 if i >= 6 else 0}" for i, name in enumerate(names)]
    (root / "celeba" / "list_eval_partition.txt").write_text("\n".join(parts))
    return root


def test_celeba_has_its_official_split_and_attributes(tmp_path) -> None:
    data = CelebA(size=8, labels="attributes", root=str(make_celeba(tmp_path)))
    assert data.num_classes == 40
    assert [len(data.split(split)) for split in ("train", "val", "test")] == [6, 2, 2]
    assert [round(float(image.mean()), -1) for image in data.split("test").images] == [80, 90]
    assert data.split("train").labels[:, 0].tolist() == [0, 1, 0, 1, 0, 1]


def add_landmarks(root: Path, num: int = 10) -> Path:
    """The nose is left of the middle between the eyes in every third picture."""
    rows = [f"{i + 1:06d}.jpg 69 109 106 113 {80 if i % 3 == 0 else 95} 142 73 152 108 154" for i in range(num)]
    heading = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
    (root / "celeba" / "list_landmarks_align_celeba.txt").write_text("\n".join([str(num), heading, *rows]))
    return root


def test_the_pose_comes_from_the_landmarks(tmp_path) -> None:
    root = add_landmarks(make_celeba(tmp_path))
    data = CelebA(size=8, labels="attributes", pose=True, root=str(root))
    assert data.class_names[-1] == "Facing_Left"
    assert data.split("train").labels[:, [0, 40]].tolist() == [[0, 1], [1, 0], [0, 0], [1, 1], [0, 0], [1, 0]]


def test_a_pose_that_cannot_be_used_is_refused(tmp_path) -> None:
    root = str(make_celeba(tmp_path))
    with pytest.raises(UserError, match=r"set data\.init_args\.labels to attributes"):
        CelebA(pose=True, root=root)
    with pytest.raises(UserError, match=r"augment\.flip turns faces round"):
        CelebA(labels="attributes", pose=True, augment=Augment(flip=True), root=root)
    with pytest.raises(UserError, match=r"list_landmarks_align_celeba\.txt is missing"):
        CelebA(labels="attributes", pose=True, root=root).prepare_data()
    path = add_landmarks(tmp_path) / "celeba/list_landmarks_align_celeba.txt"
    path.write_text(path.read_text().replace(" 95 ", " x ", 1))
    with pytest.raises(UserError, match="has a landmark that is not a number"):
        CelebA(size=8, labels="attributes", pose=True, root=root).prepare_data()


def test_celeba_without_a_list_or_pictures_is_named(tmp_path) -> None:
    root = make_celeba(tmp_path)
    (root / "celeba" / "img_align_celeba" / "000001.jpg").unlink()
    data = CelebA(size=8, root=str(root))
    assert data.cache_entry().meta["skipped"] == ["000001.jpg: missing"]
    (root / "celeba" / "list_attr_celeba.txt").unlink()
    with pytest.raises(UserError, match=r"list_attr_celeba\.txt is missing"):
        CelebA(labels="attributes", root=str(root)).prepare_data()


def test_celeba_without_a_network_says_what_to_put_where(tmp_path, monkeypatch) -> None:
    def offline(*args, **kwargs):
        raise RuntimeError("no network")

    monkeypatch.setattr("torchvision.datasets.CelebA", offline)
    with pytest.raises(UserError, match=r"no network.*img_align_celeba\.zip.*Avatars"):
        CelebA(root=str(tmp_path)).prepare_data()
