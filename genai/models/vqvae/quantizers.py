"""Quantizers: vectors in, the nearest code of each out, with a gradient that goes straight through."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from genai.errors import UserError

REVIVED_COUNT = 5.0  # times the count at which a code is dead: so long it has to find vectors


class Quantized(NamedTuple):
    """z_q (N, dim, h, w) codes with the gradient of z; indices (N, h, w) int64; loss (N,), what holds z near its codes."""

    z_q: Tensor
    indices: Tensor
    loss: Tensor


class Quantizer(nn.Module, ABC):
    """Maps vectors to one of `num_codes` codes of length `dim`; computes in float32 whatever the networks compute in."""

    num_codes: int
    dim: int

    @abstractmethod
    def forward(self, z: Tensor) -> Quantized:
        """z (N, dim, h, w) -> its codes."""

    @abstractmethod
    def codes(self, indices: Tensor) -> Tensor:
        """indices (N, h, w) -> codes (N, dim, h, w)."""

    @abstractmethod
    def learn(self, z: Tensor, indices: Tensor) -> None:
        """After a step in training: fit the codes to z (N, dim, h, w), whose vectors have chosen `indices` (N, h, w)."""


class VectorQuantizer(Quantizer):
    """VQ (van den Oord et al. 2017, arXiv:1711.00937): the nearest of learned codes, moving averages of what they stand for.

    The first batch in training gives the first codes. A code that hardly any vector chooses is put on a vector of the batch
    that is far from its own code, drawn in proportion to the squared distance as k-means++ does.

    Args:
        num_codes: K.
        dim: length of a code.
        decay: of the moving averages, for each batch (appendix A.1: gamma).
        commitment: beta of equation 3, on the mean squared distance of a vector from its code.
        dead_share: a code is dead that is chosen less than this share of 1 / K of the time; 0 revives none.
    """

    codebook: Tensor
    counts: Tensor
    sums: Tensor
    is_ready: Tensor

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
        self.register_buffer("counts", torch.ones(num_codes))  # N_i, how many vectors of a batch choose code i
        self.register_buffer("sums", self.codebook.clone())  # m_i, the sum of these vectors
        self.register_buffer("is_ready", torch.tensor(False))

    def forward(self, z: Tensor) -> Quantized:
        with torch.autocast(z.device.type, enabled=False):
            z = z.float()
            indices = nearest(vectors_of(z), self.codebook).view(len(z), *z.shape[2:])
            e = self.codes(indices)
            loss = self.commitment * (z - e).square().flatten(1).mean(dim=1)
            return Quantized(straight_through(e, z), indices, loss)

    def codes(self, indices: Tensor) -> Tensor:
        return embedding(indices, self.codebook).movedim(-1, 1)

    @torch.no_grad()
    def learn(self, z: Tensor, indices: Tensor) -> None:
        """Move the codes to the mean of their vectors (appendix A.1, equations 6 to 8) and revive the dead ones."""
        vectors, chosen = vectors_of(z.float()), indices.flatten()
        if not self.is_ready:
            self.begin(vectors)
            return
        distances = (vectors - self.codebook[chosen]).square().sum(dim=1)
        sums = torch.zeros_like(self.sums).index_add_(0, chosen, vectors)
        self.counts.lerp_(over_ranks(usage(chosen, self.num_codes)), 1 - self.decay)
        self.sums.lerp_(over_ranks(sums), 1 - self.decay)
        self.codebook.copy_(self.sums / self.counts[:, None].clamp(min=1e-8))
        fewest = self.dead_share * float(self.counts.mean())
        dead = (self.counts < fewest).nonzero()[:, 0]
        if len(dead):
            self.place(dead, vectors, distances, REVIVED_COUNT * fewest)

    def begin(self, vectors: Tensor) -> None:
        """Put all codes on some of the vectors (L, dim)."""
        every = torch.arange(self.num_codes, device=vectors.device)
        self.place(every, vectors, torch.ones_like(vectors[:, 0]), count=1.0)
        self.is_ready.fill_(True)

    def place(self, which: Tensor, vectors: Tensor, weights: Tensor, count: float) -> None:
        """Put the codes `which` (M,) on vectors (L, dim) of any rank, drawn in proportion to `weights` (L,)."""
        vectors, weights = of_all_ranks(vectors), of_all_ranks(weights)
        drawn = torch.multinomial(weights + 1e-12, len(which), replacement=len(which) > len(vectors))
        self.codebook[which] = of_first_rank(vectors[drawn])
        self.counts[which] = count
        self.sums[which] = count * self.codebook[which]


class FSQ(Quantizer):
    """Finite scalar quantization (Mentzer et al. 2023, arXiv:2309.15505): each number rounded to one of a few levels.

    Nothing is learned, so no code dies; there are as many as the product of the levels, and `dim` is how many levels there are.

    Args:
        levels: of each number of a code; the paper finds 5 or more best.
    """

    levels: Tensor
    basis: Tensor

    def __init__(self, levels: Sequence[int] = (8, 8, 8)) -> None:
        super().__init__()
        if min(levels) < 2:
            raise UserError(f"levels {list(levels)} leave nothing to choose: use 2 or more each")
        self.dim = len(levels)
        self.num_codes = math.prod(levels)
        self.register_buffer("levels", torch.tensor(levels)[:, None, None], persistent=False)
        basis = [math.prod(levels[:i]) for i in range(len(levels))]
        self.register_buffer("basis", torch.tensor(basis)[:, None, None], persistent=False)

    def forward(self, z: Tensor) -> Quantized:
        """z (N, dim, h, w) -> its codes, numbers from -1 to 1."""
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

    def learn(self, z: Tensor, indices: Tensor) -> None:
        """Nothing: the codes are what they are."""

    def bound(self, z: Tensor) -> Tensor:
        """z (N, dim, h, w) squeezed so that rounding gives `levels` integers, 0 to 0 (section 3.1 and appendix A)."""
        half_width = (self.levels - 1) * (1 + 1e-3) / 2  # the paper has 1 - 1e-3, which two levels cannot reach
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0)  # an even number of levels has one more below 0
        shift = torch.atanh(offset / half_width)
        return (z + shift).tanh() * half_width - offset


def straight_through(quantized: Tensor, z: Tensor) -> Tensor:
    """`quantized`, with the gradient of `z` (Bengio et al. 2013, arXiv:1308.3432)."""
    return z + (quantized - z).detach()


def vectors_of(z: Tensor) -> Tensor:
    """z (N, dim, h, w) -> its vectors (N * h * w, dim), without their gradient."""
    return z.detach().movedim(1, -1).flatten(0, -2)


def nearest(vectors: Tensor, codebook: Tensor) -> Tensor:
    """The nearest of the codes (K, dim) to each of the vectors (L, dim): (L,) int64."""
    return (codebook.square().sum(dim=1) - 2 * vectors @ codebook.T).argmin(dim=1)


def usage(indices: Tensor, num_codes: int) -> Tensor:
    """How often each code is chosen, (num_codes,) float32."""
    return torch.bincount(indices.flatten(), minlength=num_codes).float()


def perplexity(counts: Tensor) -> Tensor:
    """exp of the entropy of codes chosen `counts` (K,) times: how many equally frequent codes would say as much."""
    p = counts / counts.sum()
    return torch.special.entr(p).sum().exp()


def over_ranks(values: Tensor) -> Tensor:
    """The sum of `values` over all processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(values)
    return values


def of_all_ranks(values: Tensor) -> Tensor:
    """`values` (L, ...) of all processes, in the order of their ranks: (ranks * L, ...)."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return values
    gathered = [torch.empty_like(values) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(gathered, values.contiguous())
    return torch.cat(gathered)


def of_first_rank(values: Tensor) -> Tensor:
    """`values` of the first process, on all of them."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.broadcast(values, 0)
    return values
