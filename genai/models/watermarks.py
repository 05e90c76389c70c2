"""Watermarks in what a model samples from: the signs of its noise or latents, and a green list of tokens.

A key makes the pattern. Whoever has the key finds the mark in a sample; its p-value is exact over random keys, whatever the
sample is, because the pattern of another key has nothing to do with it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from scipy.stats import binom, norm
from torch import Tensor

NUM_PATTERNS = 256  # of a key, for noise of many numbers
FEW, MANY = 16, 256  # numbers: below the first all patterns are counted, from the second on a key has NUM_PATTERNS patterns


def random_of(*words: object) -> np.random.Generator:
    """Random numbers that depend on the words alone: SHA-256 of them is the key of a Philox generator."""
    digest = hashlib.sha256("\0".join(map(str, words)).encode()).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest[:16], np.uint64)))


@dataclass(frozen=True)
class SignMark:
    """Gaussian Shading (Yang et al. 2024, arXiv:2404.04956) without a message: the key chooses the signs of normal noise.

    Every image has one of NUM_PATTERNS patterns, by its seed, so that the images of a key stay as diverse as others. Over
    random keys the marked noise is standard normal. Noise of fewer than MANY numbers has room for one pattern only.

    Args:
        key: any text.
    """

    key: str

    def patterns(self, size: int) -> Tensor:
        """Signs, -1 or 1: (NUM_PATTERNS or 1, size) float32."""
        num = NUM_PATTERNS if size >= MANY else 1
        return torch.from_numpy(random_of("signs", self.key, size).integers(2, size=(num, size))).float() * 2 - 1

    def mark(self, noise: Tensor, seeds: Sequence[int]) -> Tensor:
        """Standard normal noise (N, ...) with the signs of the pattern that each of the N seeds has."""
        patterns = self.patterns(noise[0].numel())
        rows = [int(random_of("pattern", self.key, seed).integers(len(patterns))) for seed in seeds]
        return noise.abs() * patterns[rows].view(noise.shape).to(noise)

    def p_values(self, noise: Tensor) -> Tensor:
        """The probability of such an agreement with another key: estimated noise (N, ...) -> (N,) float64.

        The statistic is sum_j s_j z_j / |z|, of random signs s about normal (exact below FEW numbers); the largest over the
        patterns is corrected for their number (Sidak).
        """
        z = noise.flatten(1).double().cpu()
        z = z / z.norm(dim=1, keepdim=True).clamp(min=1e-12)  # (N, D)
        patterns = self.patterns(z.shape[1]).double()
        largest = (z @ patterns.T).amax(dim=1)  # (N,)
        if z.shape[1] <= FEW:
            signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * z.shape[1])
            return ((z @ signs.view(-1, z.shape[1]).T) >= largest[:, None] - 1e-9).double().mean(dim=1)
        single = torch.from_numpy(norm.sf(largest.numpy()))
        return -torch.expm1(len(patterns) * torch.log1p(-single.clamp(max=1 - 1e-15)))


@dataclass(frozen=True)
class GreenList:
    """Green list of tokens (Kirchenbauer et al. 2023, arXiv:2301.10226): the key and the previous token choose a part of them.

    Args:
        key: any text.
        share: of the vocabulary that is green.
        delta: added to the logits of green tokens.
    """

    key: str
    share: float = 0.5
    delta: float = 2.0

    def is_green(self, previous: int, vocab_size: int) -> Tensor:
        """Which tokens are green after `previous`: (vocab_size,) bool."""
        return green_tokens(self.key, self.share, previous, vocab_size)

    def favour(self, logits: Tensor, previous: Tensor) -> Tensor:
        """Logits (N, V) of the tokens after `previous` (N,), with `delta` added to those of green tokens."""
        green = torch.stack([self.is_green(token, logits.shape[1]) for token in previous.tolist()])
        return logits + self.delta * green.to(logits)

    def p_value(self, tokens: Sequence[int], vocab_size: int) -> tuple[float, int, int]:
        """The probability of so many green tokens in a text without this mark, their number, and the number of pairs.

        A pair of successive tokens counts once, since repeated pairs are not independent: tokens (L,).
        """
        pairs = sorted(set(pairwise(tokens)))
        num_green = sum(bool(self.is_green(previous, vocab_size)[token]) for previous, token in pairs)
        return float(binom.sf(num_green - 1, len(pairs), self.share)), num_green, len(pairs)


@lru_cache(maxsize=10_000)
def green_tokens(key: str, share: float, previous: int, vocab_size: int) -> Tensor:
    """See `GreenList.is_green`."""
    return torch.from_numpy(random_of("green", key, previous).random(vocab_size) < share)
