"""Occlusion maps: exact for a linear score; the test of faithfulness tells a right explanation from a wrong one."""

import torch
from torch import Tensor

from genai.control.explanations import erased, faithfulness, log_odds, occlusion_maps

WEIGHTS = torch.zeros(1, 8, 8)
WEIGHTS[0, 2:4, 4:6] = 1.0
IMAGES = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0)) + 0.1
FILL = torch.zeros(1, 8, 8)


def linear(x: Tensor) -> Tensor:
    return (WEIGHTS * x).sum(dim=(1, 2, 3))


def test_a_map_is_the_contribution_of_each_square() -> None:
    maps = occlusion_maps(linear, IMAGES, FILL, 2)
    assert maps.shape == (5, 8, 8)
    torch.testing.assert_close(maps[:, 2, 4], linear(IMAGES))
    maps[:, 2:4, 4:6] = 0
    assert maps.abs().max() < 1e-6


def test_the_right_explanation_is_faithful_and_a_wrong_one_is_not() -> None:
    maps = occlusion_maps(linear, IMAGES, FILL, 2)
    right = faithfulness(linear, IMAGES, maps, FILL, 0.1, 2)
    torch.testing.assert_close(right.important, linear(IMAGES))
    assert right.important.mean() > right.random.mean()
    wrong = faithfulness(linear, IMAGES, -maps, FILL, 0.1, 2)
    assert wrong.important.abs().max() < 1e-6


def test_erasing_takes_the_fill() -> None:
    mask = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    mask[..., 0] = True
    result = erased(IMAGES, mask, FILL - 1)
    assert (result[..., 0] == -1).all()
    assert torch.equal(result[..., 1:], IMAGES[..., 1:])
    assert log_odds(torch.tensor([0.0, 0.5, 1.0])).isfinite().all()
