"""Thickness and slant of strokes with known ones."""

import pytest
import torch

from genai.control.strokes import slant, stroke_scores, thickness


def bar(width: int, length: int = 20) -> torch.Tensor:
    image = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    image[:, :, 4 : 4 + length, 10 : 10 + width] = 255
    return image


@pytest.mark.parametrize("width", [1, 2, 4])
def test_a_bar_has_its_width(width: int) -> None:
    expected = 2 * 20 * width / (2 * (20 + width))
    assert float(thickness(bar(width))) == pytest.approx(expected, rel=0.05)  # the corners of a total variation


@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_a_sheared_bar_has_its_slant(shift: int) -> None:
    image = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    for row in range(20):
        image[0, 0, 4 + row, 14 - shift * (row - 10) // 2] = 255
    assert float(slant(image)) == pytest.approx(shift / 2, abs=0.02)


def test_scores_are_relative_to_the_median() -> None:
    scores = stroke_scores(torch.cat([bar(1), bar(2), bar(3)]))
    assert scores(bar(2))[0, 0] == 0
    assert scores(bar(3))[0, 0] > 0 > scores(bar(1))[0, 0]
    assert scores(torch.zeros(1, 1, 28, 28, dtype=torch.uint8)).isfinite().all()
