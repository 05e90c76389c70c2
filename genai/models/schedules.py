"""Schedules: values such as learning rates and penalties as functions of the images seen."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from `start` to `end` over the first `kimg` thousand images, constant afterwards.

    Args:
        kimg: length in thousands of images, or of tokens of a text model.
        start: first value.
        end: last value.
        warmup_kimg: length of the linear warm-up from 0, in the same unit, a part of `kimg`.
    """

    kimg: float
    start: float = 1.0
    end: float = 0.0
    warmup_kimg: float = 0.0

    def __call__(self, images_seen: int) -> float:
        progress = min(images_seen / (1000 * self.kimg), 1.0)
        value = self.end + (self.start - self.end) * (1 + math.cos(math.pi * progress)) / 2
        return value * min(1.0, (images_seen + 1) / (1000 * self.warmup_kimg + 1))
