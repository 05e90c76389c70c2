"""How unlike known images an image is, by its code and by its likelihood."""

import torch
from torch import Tensor

ROWS = 1000  # of distances at once
FITTED = 2000  # known codes that say what is usual


def novelty(codes: Tensor, known: Tensor, neighbours: int = 5) -> Tensor:
    """Mean distance of codes (N, D) to the nearest of `known` (M, D), less what is usual for a code of that length: (N,).

    Long codes, those of intricate images, lie farther from each other; a straight line through the known ones' own distances
    takes that out, so that a simple image can be novel too.
    """
    usual = nearest(known[:FITTED], known, neighbours + 1)[:, 1:].mean(dim=1)  # without itself
    slope, intercept = line(known[:FITTED].norm(dim=1), usual)
    return nearest(codes, known, neighbours).mean(dim=1) - slope * codes.norm(dim=1) - intercept


def excess(nats: Tensor, images: Tensor, known_nats: Tensor, known: Tensor) -> Tensor:
    """-ln p(x) in nats (N,) of images (N, C, H, W), less what is usual for images as bright and with as much outline: (N,).

    Any model finds a simple image likely, be it strange or not (Serra et al. 2019, arXiv:1909.11480, who subtract the size of a
    compressed file). A quadratic surface through the nats (M,) of known images (M, C, H, W) says what is usual.
    """
    surface = torch.linalg.lstsq(complexity(known), known_nats.double()[:, None]).solution
    return nats.double() - (complexity(images) @ surface)[:, 0]


def complexity(images: Tensor) -> Tensor:
    """Images (N, C, H, W) in [-1, 1] -> powers up to the second of their brightness and total variation: (N, 6) float64."""
    x = images.double()
    brightness = x.mean(dim=(1, 2, 3))
    variation = x.diff(dim=3).abs().mean(dim=(1, 2, 3)) + x.diff(dim=2).abs().mean(dim=(1, 2, 3))
    return torch.stack([brightness**i * variation**j for i, j in ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))], dim=1)


def standardised(scores: Tensor, usual: Tensor) -> Tensor:
    """Scores (N,) in standard deviations of the `usual` ones (M,) above their mean: (N,)."""
    return (scores - usual.mean()) / usual.std()


def nearest(codes: Tensor, known: Tensor, num: int) -> Tensor:
    """The `num` smallest distances from each of codes (N, D) to known (M, D), ascending: (N, num)."""
    parts = [torch.cdist(part, known).topk(num, largest=False, sorted=True).values for part in codes.split(ROWS)]
    return torch.cat(parts)


def line(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and intercept of the least squares line through points (N,), (N,)."""
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    return slope, y.mean() - slope * x.mean()
