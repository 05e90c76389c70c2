"""Haze: pixels that are nearly black but not black, which models with a smooth output leave on a black background."""

from genai.metrics.protocol import Comparison
from genai.metrics.registry import metric


@metric(title="Haze", better="lower", format=".4f", paper="none", order=95)
def haze(sets: Comparison) -> float | None:
    """Absolute difference between the shares of nearly black pixels of samples and of real images.

    A large difference tells samples from real images by itself, however good the other scores are.
    """
    samples, real = sets.generated.nearly_black, sets.real.nearly_black
    if samples is None or real is None:
        return None
    return abs(samples.double().mean() - real.double().mean()).item()
