"""Quantizers: they replace each vector with one of a finite number of codes, with a straight-through gradient."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from genai.errors import UserError

REVIVED_COUNT = 5.0  # initial count of a revived code, as a multiple of the count at which a code is dead


class Quantized(NamedTuple):
    """Codes z_q (N, dim, h, w) with the gradient of z, their indices (N, h, w) int64, and the commitment loss (N,)."""

    z_q: Tensor
    indices: Tensor
    loss: Tensor


class Quantizer(nn.Module, ABC):
    """Maps each vector to one of `num_codes` codes of length `dim`; computed in float32, also under autocast."""

    num_codes: int
    dim: int

    @abstractmethod
    def forward(self, z: Tensor) -> Quantized:
        """Quantize z (N, dim, h, w)."""

    @abstractmethod
    def codes(self, indices: Tensor) -> Tensor:
        """indices (N, h, w) -> codes (N, dim, h, w)."""

    @abstractmethod
    def update_codes(self, z: Tensor, indices: Tensor) -> None:
        """Called after each training step: fit the codes to z (N, dim, h, w), quantized to `indices` (N, h, w)."""


class VectorQuantizer(Quantizer):
    """VQ (van den Oord et al. 2017, arXiv:1711.00937): the nearest code; codes are moving averages of their vectors.

    The codes are initialised with vectors of the first training batch. A dead code, which is rarely used, is revived: it is
    moved to a vector of the batch, sampled with probability proportional to the squared distance from its code, as in
    k-means++.

    Args:
        num_codes: K.
        dim: length of a code.
        decay: of the moving averages per batch (gamma in appendix A.1).
        commitment: beta in equation 3, weight of the mean squared distance between vectors and codes.
        dead_share: a code is dead if its count is below this share of the mean count; 0 revives no code.
    """

    codebook: Tensor
    counts: Tensor
    sums: Tensor
    is_ready: Tensor  # 0 or 1: whether the codes have their initial values

    def __init__(
        self, num_codes: int = 512, dim: int = 8, decay: float = 0.99, commitment: float = 0.25, dead_share: float = 0.02
    ) -> None:
        super().__init__()
        self.num_codes = num_codes
        self.dim = dim
        self.decay = decay
        self.commitment = commitment
        self.dead_share = dead_share
        self.register_buffer("codebook", torch.randn(num_codes, dim))
        self.register_buffer("counts", torch.ones(num_codes))  # N_i, number of vectors of a batch with code i
        self.register_buffer("sums", self.codebook.clone())  # m_i, sum of these vectors
        self.register_buffer("is_ready", torch.tensor(0))  # no bool, which Lightning's WeightAveraging cannot average

    def forward(self, z: Tensor) -> Quantized:
        with torch.autocast(z.device.type, enabled=False):
            z = z.float()
            indices = nearest(to_vectors(z), self.codebook).view(len(z), *z.shape[2:])
            e = self.codes(indices)
            loss = self.commitment * (z - e).square().flatten(1).mean(dim=1)
            return Quantized(straight_through(e, z), indices, loss)

    def codes(self, indices: Tensor) -> Tensor:
        return embedding(indices, self.codebook).movedim(-1, 1)

    @torch.no_grad()
    def update_codes(self, z: Tensor, indices: Tensor) -> None:
        """Move the codes towards the means of their vectors (appendix A.1, equations 6 to 8) and revive dead codes."""
        vectors, chosen = to_vectors(z.float()), indices.flatten()
        if not self.is_ready:
            self.initialise(vectors)
            return
        distances = (vectors - self.codebook[chosen]).square().sum(dim=1)
        sums = torch.zeros_like(self.sums).index_add_(0, chosen, vectors)
        self.counts.lerp_(sum_over_ranks(usage(chosen, self.num_codes)), 1 - self.decay)
        self.sums.lerp_(sum_over_ranks(sums), 1 - self.decay)
        self.codebook.copy_(self.sums / self.counts[:, None].clamp(min=1e-8))
        min_count = self.dead_share * float(self.counts.mean())
        dead = (self.counts < min_count).nonzero()[:, 0]
        if len(dead):
            self.move(dead, vectors, distances, REVIVED_COUNT * min_count)

    def initialise(self, vectors: Tensor) -> None:
        """Move all codes to some of the vectors (L, dim)."""
        all_codes = torch.arange(self.num_codes, device=vectors.device)
        self.move(all_codes, vectors, torch.ones_like(vectors[:, 0]), count=1.0)
        self.is_ready.fill_(1)

    def move(self, codes: Tensor, vectors: Tensor, weights: Tensor, count: float) -> None:
        """Move the codes with indices `codes` (M,) to vectors (L, dim) of any rank, sampled with `weights` (L,)."""
        vectors, weights = gather_ranks(vectors), gather_ranks(weights)
        chosen = torch.multinomial(weights + 1e-12, len(codes), replacement=len(codes) > len(vectors))
        self.codebook[codes] = broadcast_first_rank(vectors[chosen])
        self.counts[codes] = count
        self.sums[codes] = count * self.codebook[codes]


class FSQ(Quantizer):
    """Finite scalar quantization (Mentzer et al. 2023, arXiv:2309.15505): each number is rounded to one of a few levels.

    The codes are fixed. `num_codes` is the product of the levels, and `dim` is the length of `levels`.

    Args:
        levels: number of levels of each dimension, at least 2; the paper recommends 5 or more.

    Raises:
        UserError: a number of levels is below 2.
    """

    levels: Tensor
    basis: Tensor

    def __init__(self, levels: Sequence[int] = (8, 8, 8)) -> None:
        super().__init__()
        if min(levels) < 2:
            raise UserError(f"levels {list(levels)} are not possible: use 2 or more for each dimension")
        self.dim = len(levels)
        self.num_codes = math.prod(levels)
        self.register_buffer("levels", torch.tensor(levels)[:, None, None], persistent=False)
        basis = [math.prod(levels[:i]) for i in range(len(levels))]
        self.register_buffer("basis", torch.tensor(basis)[:, None, None], persistent=False)

    def forward(self, z: Tensor) -> Quantized:
        """Quantize z (N, dim, h, w); the codes are in [-1, 1]."""
        with torch.autocast(z.device.type, enabled=False):
            bounded = self.bound(z.float())
            half = self.levels // 2
            steps = straight_through(bounded.round(), bounded)
            indices = ((steps.detach().long() + half) * self.basis).sum(dim=1)
            return Quantized(steps / half, indices, z.new_zeros(len(z), dtype=torch.float32))

    def codes(self, indices: Tensor) -> Tensor:
        half = self.levels // 2
        steps = indices[:, None] // self.basis % self.levels - half
        return steps / half

    def update_codes(self, z: Tensor, indices: Tensor) -> None:
        """Do nothing: the codes are fixed."""

    def bound(self, z: Tensor) -> Tensor:
        """Bound z (N, dim, h, w) so that rounding gives `levels` integers; 0 maps to 0 (section 3.1 and appendix A)."""
        half_width = (self.levels - 1) * (1 + 1e-3) / 2  # the paper uses 1 - 1e-3, with which two levels are not reached
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0)  # an even number of levels has one more level below 0
        shift = torch.atanh(offset / half_width)
        return (z + shift).tanh() * half_width - offset


def straight_through(quantized: Tensor, z: Tensor) -> Tensor:
    """`quantized`, with the gradient of `z` (Bengio et al. 2013, arXiv:1308.3432)."""
    return z + (quantized - z).detach()


def to_vectors(z: Tensor) -> Tensor:
    """z (N, dim, h, w) -> vectors (N * h * w, dim), without gradient."""
    return z.detach().movedim(1, -1).flatten(0, -2)


def nearest(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest code (K, dim) to each vector (L, dim): (L,) int64."""
    return (codebook.square().sum(dim=1) - 2 * vectors @ codebook.T).argmin(dim=1)


def usage(indices: Tensor, num_codes: int) -> Tensor:
    """How often each code occurs: (num_codes,) float32."""
    return torch.bincount(indices.flatten(), minlength=num_codes).float()


def perplexity(counts: Tensor) -> Tensor:
    """exp of the entropy of codes with `counts` (K,): the number of equally frequent codes with the same entropy."""
    p = counts / counts.sum()
    return torch.special.entr(p).sum().exp()


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum of `values` over all processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(values)
    return values


def gather_ranks(values: Tensor) -> Tensor:
    """`values` (L, ...) of all processes in rank order: (ranks * L, ...)."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return values
    gathered = [torch.empty_like(values) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(gathered, values.contiguous())
    return torch.cat(gathered)


def broadcast_first_rank(values: Tensor) -> Tensor:
    """`values` of the first process, on all processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.broadcast(values, 0)
    return values
