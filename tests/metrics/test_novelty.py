"""Distances of codes to known ones, and nats beyond what is usual."""

import torch

from genai.metrics.novelty import complexity, excess, line, nearest, novelty, standardised


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


def test_excess_is_what_brightness_and_outline_do_not_explain() -> None:
    """Nats that are a quadratic function of both leave nothing; what is added comes out."""
    generator = torch.Generator().manual_seed(0)
    known = 2 * torch.rand(200, 1, 6, 6, generator=generator) ** (torch.rand(200, 1, 1, 1, generator=generator) * 3) - 1
    terms = complexity(known)
    assert terms.shape == (200, 6)
    flat = torch.full((1, 1, 6, 6), 0.5)
    torch.testing.assert_close(complexity(flat)[0], torch.tensor([1.0, 0.5, 0, 0.25, 0, 0], dtype=torch.float64))
    nats = terms @ torch.tensor([3.0, 1, -2, 0.5, 4, 1], dtype=torch.float64)
    more = torch.tensor([0.0, 7, -2], dtype=torch.float64)
    torch.testing.assert_close(excess(nats[:3] + more, known[:3], nats, known), more, rtol=0, atol=1e-6)


def test_standardised_scores_have_the_usual_mean_and_spread() -> None:
    usual = 5 + 3 * torch.randn(1000)
    assert abs(float(standardised(usual, usual).mean())) < 1e-4
    torch.testing.assert_close(standardised(usual.mean() + 2 * usual.std(), usual), torch.tensor(2.0))
