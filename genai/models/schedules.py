"""Values that change as images are seen: learning rates, penalties."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from `start` to `end` over the first `kimg` thousand images, constant afterwards.

    A pure function of the images seen, so resuming needs no state.

    Args:
        kimg: its length.
        start: the first value.
        end: the last value.
        warmup_kimg: so many thousand images from 0 up to the cosine, in proportion; part of `kimg`.
    """

    kimg: float
    start: float = 1.0
    end: float = 0.0
    warmup_kimg: float = 0.0

    def __call__(self, images_seen: int) -> float:
        progress = min(images_seen / (1000 * self.kimg), 1.0)
        value = self.end + (self.start - self.end) * (1 + math.cos(math.pi * progress)) / 2
        return value * min(1.0, (images_seen + 1) / (1000 * self.warmup_kimg + 1))
