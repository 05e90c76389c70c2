"""Schedules: values such as learning rates and penalties as functions of the images seen."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from `start` to `end` over the first `kimg` thousand images, constant afterwards.

    Args:
        kimg: length in thousands of images.
        start: first value.
        end: last value.
        warmup_kimg: length of the linear warm-up from 0, in thousands of images, a part of `kimg`.
    """

    kimg: float
    start: float = 1.0
    end: float = 0.0
    warmup_kimg: float = 0.0

    def __call__(self, images_seen: int) -> float:
        return half_cosine(images_seen, self.kimg, self.start, self.end, self.warmup_kimg)


@dataclass(frozen=True)
class TokenCosine:
    """Half a cosine from `start` to `end` over the first `ktokens` thousand tokens of a text model, constant afterwards.

    Args:
        ktokens: length in thousands of tokens.
        start: first value.
        end: last value.
        warmup_ktokens: length of the linear warm-up from 0, in thousands of tokens, a part of `ktokens`.
    """

    ktokens: float
    start: float = 1.0
    end: float = 0.0
    warmup_ktokens: float = 0.0

    def __call__(self, tokens_seen: int) -> float:
        return half_cosine(tokens_seen, self.ktokens, self.start, self.end, self.warmup_ktokens)


def half_cosine(seen: int, thousands: float, start: float, end: float, warmup_thousands: float) -> float:
    """The value of a schedule after `seen` images or tokens; lengths are in thousands of them."""
    progress = min(seen / (1000 * thousands), 1.0)
    value = end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
    return value * min(1.0, (seen + 1) / (1000 * warmup_thousands + 1))
