"""Distances of codes to known codes, and nats beyond the expected value."""

import numpy as np
import torch

from genai.cli.verbs.anomalies import auroc
from genai.metrics.novelty import complexity, excess, novelty, standardised


def test_novelty_is_the_mean_distance_to_the_nearest_minus_a_linear_fit() -> None:
    generator = torch.Generator().manual_seed(0)
    codes, known = torch.randn(30, 4, generator=generator), torch.randn(50, 4, generator=generator)

    def mean_distance(a: torch.Tensor, skip: int) -> torch.Tensor:
        return (a[:, None] - known).norm(dim=2).sort(dim=1).values[:, skip : 3 + skip].mean(dim=1)

    slope, intercept = np.polyfit(known.norm(dim=1), mean_distance(known, 1), 1)
    expected = mean_distance(codes, 0) - slope * codes.norm(dim=1) - intercept
    torch.testing.assert_close(novelty(codes, known, 3).float(), expected.float(), rtol=0, atol=1e-4)


def test_codes_between_the_known_ones_are_novel_and_codes_far_out_are_not() -> None:
    """Known codes are rays from the origin, sparser further out; novel ones lie between two rays."""
    generator = torch.Generator().manual_seed(0)
    radius = 1 + 9 * torch.rand(2000, generator=generator)
    noise = 0.05 * radius[:, None] * torch.randn(2000, 2, generator=generator)
    side = (torch.arange(2000) % 2)[:, None]
    known = radius[:, None] * torch.where(side == 0, torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])) + noise
    between, far_out = torch.tensor([[1.0, 1.0]]), torch.tensor([[9.5, 0.1]])
    scores = novelty(torch.cat([between, far_out, known[:500]]), known)
    assert scores[0] > scores[2:].max()
    assert scores[1] < scores[2:].quantile(0.99)
    assert abs(float(scores[2:].mean())) < 0.1


def test_excess_is_what_brightness_and_total_variation_do_not_explain() -> None:
    """The excess of a quadratic polynomial of both is 0; an added constant remains."""
    generator = torch.Generator().manual_seed(0)
    known = 2 * torch.rand(200, 1, 6, 6, generator=generator) ** (torch.rand(200, 1, 1, 1, generator=generator) * 3) - 1
    b, v = torch.from_numpy(complexity(known)).unbind(dim=1)
    flat = torch.full((1, 1, 6, 6), 0.5)
    np.testing.assert_allclose(complexity(flat), [[0.5, 0.0]])
    nats = 3 + b - 2 * v + 0.5 * b**2 + 4 * b * v + v**2
    more = torch.tensor([0.0, 7, -2], dtype=torch.float64)
    torch.testing.assert_close(excess(nats[:3] + more, known[:3], nats, known), more, rtol=0, atol=1e-6)


def test_standardised_scores_have_mean_0_and_standard_deviation_1() -> None:
    reference = 5 + 3 * torch.randn(1000, generator=torch.Generator().manual_seed(0))
    scores = standardised(reference, reference)
    assert abs(float(scores.mean())) < 1e-4
    torch.testing.assert_close(scores.std(), torch.tensor(1.0))


def test_equal_scores_count_half() -> None:
    assert auroc(torch.zeros(5), torch.zeros(500)) == 0.5
    assert auroc(torch.tensor([2.0, 1.0]), torch.tensor([1.0, 0.0])) == 3.5 / 4
