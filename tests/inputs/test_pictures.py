"""Every odd picture is decoded to the right values, or skipped with a reason that helps."""

import threading

import numpy as np
import pytest
from PIL import Image

from genai.data import archives, decoding
from genai.data.decoding import decode_image
from genai.data.photos import Decoder, check_values, windows
from tests.data.photographs import encoded
from tests.inputs.pictures import PICTURES


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_has_its_values_or_a_reason(name: str, channels: int) -> None:
    content, expected = PICTURES[name]
    result = Decoder(4, channels)(archives.Picture(name, content))
    if isinstance(expected, str):
        assert isinstance(result, str)
        assert expected in result
        assert "\n" not in result
        assert "BytesIO" not in result
    else:
        assert not isinstance(result, str), result
        assert result.shape == (channels, 4, 4)
        assert abs(int(np.median(result)) - expected) <= 2


def test_large_pictures_are_decoded_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    active, most = 0, 0
    convert = decoding.flatten

    def counted(image: Image.Image, *others: object) -> Image.Image:
        nonlocal active, most
        active += 1
        most = max(most, active)
        result = convert(image, *others)
        active -= 1
        return result

    monkeypatch.setattr(decoding, "LARGE", 100)
    monkeypatch.setattr(decoding, "flatten", counted)
    content = encoded(Image.new("RGBA", (300, 300)))
    threads = [threading.Thread(target=decode_image, args=(content, 8, 3)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_the_files_in_memory_are_bounded_by_bytes() -> None:
    files = [archives.Picture(str(i), bytes(size)) for i, size in enumerate([10, 90, 200, 1, 1, 1, 1])]
    assert [[len(p.content) for p in window] for window in windows(iter(files), 3, 100)] == [[10, 90], [200], [1, 1, 1], [1]]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.random.RandomState(0).randint(0, 16, (9, 1, 8, 8)), "between 0 and 15"),
        (np.zeros((9, 1, 8, 8)), "between 0 and 0"),
        (np.arange(0, 256, 16)[:, None, None, None].repeat(8, 3), "nearly constant"),
        (np.random.RandomState(0).randint(0, 256, (9, 1, 8, 8)), None),
    ],
    ids=["dark", "black", "constant", "ordinary"],
)
def test_sets_of_odd_values_are_warned_of(images: np.ndarray, message: str | None) -> None:
    warnings = check_values(images.astype(np.uint8))
    assert len(warnings) == (message is not None)
    assert message is None or message in warnings[0]
