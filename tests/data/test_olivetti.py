"""The Olivetti faces: every person in every split."""

import joblib
import numpy as np
import pytest

from genai.data.olivetti import Olivetti
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
