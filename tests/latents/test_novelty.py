"""Distances of codes to known ones."""

import torch

from genai.latents.novelty import line, nearest, novelty


def test_the_nearest_are_those_of_sorting() -> None:
    codes, known = torch.randn(30, 4), torch.randn(50, 4)
    expected = (codes[:, None] - known).norm(dim=2).sort(dim=1).values[:, :3]
    torch.testing.assert_close(nearest(codes, known, 3), expected, rtol=0, atol=1e-5)


def test_a_line_is_found() -> None:
    x = torch.randn(20)
    torch.testing.assert_close(torch.stack(line(x, 3 * x - 2)), torch.tensor([3.0, -2.0]))


def test_novel_is_what_lies_apart_and_not_what_is_long() -> None:
    """Known codes are rays from the origin, sparser further out; novel ones lie between two rays."""
    generator = torch.Generator().manual_seed(0)
    radius = 1 + 9 * torch.rand(2000, generator=generator)
    spread = 0.05 * radius[:, None] * torch.randn(2000, 2, generator=generator)
    side = (torch.arange(2000) % 2)[:, None]
    known = radius[:, None] * torch.where(side == 0, torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])) + spread
    between, far_out = torch.tensor([[1.0, 1.0]]), torch.tensor([[9.5, 0.1]])
    scores = novelty(torch.cat([between, far_out, known[:500]]), known)
    assert scores[0] > scores[2:].max()
    assert scores[1] < scores[2:].quantile(0.99)
    assert abs(float(scores[2:].mean())) < 0.1
