"""Stored pixels and model pixels."""

import torch

from genai.images import to_float, to_uint8


def test_all_256_values_come_back() -> None:
    values = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(values)), values)
    assert to_float(values)[[0, 255]].tolist() == [-1, 1]


def test_values_outside_are_clamped() -> None:
    assert to_uint8(torch.tensor([-1.5, -1, 0.999, 1, 7])).tolist() == [0, 0, 255, 255, 255]


def test_the_input_is_left_alone() -> None:
    images = torch.tensor([0.5])
    to_uint8(images)
    assert images.item() == 0.5
