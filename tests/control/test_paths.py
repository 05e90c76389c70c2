"""Paths between latents."""

import math

import pytest
import torch

from genai.control.paths import PATHS, lerp, slerp

T = torch.linspace(0, 1, 5)


@pytest.mark.parametrize("name", list(PATHS))
def test_a_path_goes_from_one_end_to_the_other(name: str) -> None:
    z_a, z_b = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0))
    points = PATHS[name](z_a, z_b, T)
    assert points.shape == (5, 3, 8)
    torch.testing.assert_close(points[0], z_a)
    torch.testing.assert_close(points[-1], z_b)


def test_an_arc_keeps_the_length_and_turns_evenly() -> None:
    z_a, z_b = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    points = slerp(z_a, z_b, T)[:, 0]
    angles = math.pi / 2 * T
    torch.testing.assert_close(points, 2 * torch.stack([angles.cos(), angles.sin()], dim=1))
    assert float(lerp(z_a, z_b, T)[2].norm()) == pytest.approx(math.sqrt(2))


def test_an_arc_between_parallel_latents_is_a_line() -> None:
    z = torch.tensor([[0.3, -0.4], [1e-8, 0.0]])
    torch.testing.assert_close(slerp(z, 2 * z, T), lerp(z, 2 * z, T))
    torch.testing.assert_close(slerp(z, -z, T), lerp(z, -z, T))
