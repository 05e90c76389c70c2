"""Reproducible random numbers: each sample has its own seed, and its numbers depend on nothing else.

The generator is Philox (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), which is counter-based: a key and a
counter give the same bits on every machine. The key is (user seed, index of the image), so two seeds never share a stream.
`SEED_SCHEME` names this scheme in run.json; samples of another scheme differ.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

SEED_SCHEME = "philox-1"
MAX_SEED = 2**31  # of a user; a sample's seed is below 2**63


def image_seeds(seed: int, num: int) -> range:
    """Seeds of `num` samples under a user's seed in [0, 2**31): seed * 2**32 + i. No two user seeds share a sample."""
    return range(seed * 2**32, seed * 2**32 + num)


class SeededRandom:
    """The random numbers of a batch of samples, on the CPU and then moved; row i depends on `seeds[i]` and the calls so far.

    Args:
        seeds: N integers in [0, 2**63).
        device: of the result.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        keys = (np.array(divmod(int(seed), 2**32), dtype=np.uint64) for seed in seeds)
        self.generators = [np.random.Philox(key=key) for key in keys]
        self.device = torch.device(device)

    def uniform(self, shape: Sequence[int]) -> Tensor:
        """(N, *shape) float64 in (0, 1), from the upper 53 bits of each 64-bit word."""
        shape = tuple(shape)
        size = int(np.prod(shape, dtype=np.int64))
        words = np.array([generator.random_raw(size) for generator in self.generators], dtype=np.uint64)
        values = ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
        return torch.from_numpy(values.reshape(len(self.generators), *shape)).to(self.device)

    def normal(self, shape: Sequence[int]) -> Tensor:
        """(N, *shape) float32 standard normal numbers: the inverse of the normal distribution function at `uniform`."""
        return torch.special.ndtri(self.uniform(shape).cpu()).float().to(self.device)

    def integers(self, high: int, shape: Sequence[int] = ()) -> Tensor:
        """(N, *shape) int64, uniform in [0, high)."""
        return (self.uniform(shape) * high).long()


def seeded_normal(seeds: Sequence[int], shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """Standard normal noise (len(seeds), *shape) float32: row i depends on `seeds[i]` alone, on every device alike."""
    return SeededRandom(seeds, device).normal(shape)


def seeded_uniform(seeds: Sequence[int], shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """Uniform numbers (len(seeds), *shape) float32 in (0, 1): row i depends on `seeds[i]` alone."""
    return SeededRandom(seeds, device).uniform(shape).float().clamp(max=1 - 2**-24)
