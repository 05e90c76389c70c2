"""Metrics of a codebook over a split: how many codes are used, and how evenly."""

import torch
from torch import Tensor
from torchmetrics import Metric

from genai.models.vqvae.quantizers import perplexity, usage


class CodeUsage(Metric):
    """Counts how often each code is used.

    Args:
        num_codes: K.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, num_codes: int) -> None:
        super().__init__()
        self.num_codes = num_codes
        self.add_state("counts", torch.zeros(num_codes), dist_reduce_fx="sum")

    def update(self, indices: Tensor) -> None:
        """Add codes (N, h, w) int64."""
        self.counts = self.counts + usage(indices, self.num_codes)


class CodesUsed(CodeUsage):
    """The number of codes that are used at least once."""

    def compute(self) -> Tensor:
        return (self.counts > 0).sum().to(torch.float32)


class CodePerplexity(CodeUsage):
    """exp of the entropy of the used codes."""

    def compute(self) -> Tensor:
        return perplexity(self.counts)
