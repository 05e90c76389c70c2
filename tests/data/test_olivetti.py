"""The Olivetti faces: every person in every split."""

import joblib
import numpy as np
import pytest

from genai.data.olivetti import Olivetti, read_faces
from genai.errors import UserError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path / "cache"))


def test_olivetti_has_forty_people_in_every_split(tmp_path) -> None:
    pixels = (np.arange(400)[:, None] % 256 / 255 * np.ones(4096)).astype(np.float32)
    (tmp_path / "olivetti").mkdir()
    joblib.dump(pixels, tmp_path / "olivetti" / "olivetti_py3.pkz")
    data = Olivetti(channels=1, labels="person", root=str(tmp_path))
    for split, num in {"train": 8, "val": 1, "test": 1}.items():
        assert (np.bincount(data.split(split).labels) == num).all()
    assert data.split("val").images[3, 0, 5, 5] == 38
    (tmp_path / "olivetti" / "olivetti_py3.pkz").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"olivetti_py3\.pkz is damaged"):
        Olivetti(root=str(tmp_path)).prepare_data()


@pytest.mark.parametrize("dtype", ["u1", "f4", "f8"])
@pytest.mark.parametrize("options", [{}, {"compress": 6}, {"compress": 6, "protocol": 2}], ids=str)
def test_the_photographs_are_those_of_scikit_learn(dtype, options, tmp_path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (400, 4096))
    pixels[0, :2] = 0, 255
    joblib.dump(pixels.astype(dtype), tmp_path / "olivetti_py3.pkz", **options)
    expected = pixels.reshape(400, 64, 64).transpose(0, 2, 1)  # as fetch_olivetti_faces does
    assert (read_faces(tmp_path / "olivetti_py3.pkz") == expected).all()


@pytest.mark.parametrize(
    "content",
    [
        np.zeros((400, 4096), object),
        np.zeros((400, 4095), np.float32),
        np.zeros((400, 4096), ">f4"),
        np.asfortranarray(np.zeros((400, 4096), np.float32)),
        np.full((400, 4096), np.nan, np.float32),
        {"faces": [1]},
    ],
    ids=["objects", "shape", "big-endian", "by column", "nan", "dict"],
)
def test_what_holds_other_values_is_refused(content, tmp_path) -> None:
    file = tmp_path / "olivetti_py3.pkz"
    joblib.dump(content, file)
    with pytest.raises(UserError, match="is damaged"):
        read_faces(file)
