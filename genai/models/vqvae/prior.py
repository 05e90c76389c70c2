"""The second stage: an autoregressive prior predicts the codes of an image in raster order."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from genai.errors import UserError
from genai.models.vqvae.code_sampling import CodeSampling, sample_codes
from genai.networks.transformer import Cache

# (number of codes, length of a sequence, num_classes) -> network
CodePriorFactory = Callable[[int, int, int], nn.Module]


class CodePrior(nn.Module):
    """p(codes | labels) of a grid of codes, one code after another.

    Args:
        network: factory of the network (codes, condition, cache) -> logits, such as a Transformer.
        num_codes: K.
        grid: height and width of the grid of codes.
        num_classes: width of the condition; 0 for an unconditional prior.
    """

    def __init__(self, network: CodePriorFactory, num_codes: int, grid: tuple[int, int], num_classes: int) -> None:
        super().__init__()
        self.network = network(num_codes, math.prod(grid), num_classes)
        self.num_codes = num_codes
        self.grid = grid

    def nats(self, codes: Tensor, inputs: Tensor, condition: Tensor | None) -> Tensor:
        """-ln p of each code, given the codes before it and the condition: (N, h * w) nats.

        Args:
            codes: (N, h, w) int64, to be predicted.
            inputs: the codes that the network sees, (N, h, w) int64; `codes`, or `corrupt_codes` of them in training.
            condition: encoded labels, see `encode_labels`; None for an unconditional prior.
        """
        logits = self.network(inputs.flatten(1)[:, :-1], condition).float()  # (N, h * w, K)
        return cross_entropy(logits.transpose(1, 2), codes.flatten(1), reduction="none")

    def loss(self, codes: Tensor, inputs: Tensor, condition: Tensor | None) -> Tensor:
        """Mean of `nats` over the codes of an image: (N,)."""
        return self.nats(codes, inputs, condition).mean(dim=1)

    def sample(self, u: Tensor, condition: Tensor | None, code_sampling: CodeSampling) -> Tensor:
        """Sample the codes of N images: (N, h, w) int64.

        Args:
            u: uniform numbers (N, h * w) in [0, 1), one for each code.
            condition: encoded labels, see `encode_labels`; None for an unconditional prior.
            code_sampling: temperature, top-k, top-p and guidance.
        """
        next_logits = self.next_logits(condition, code_sampling.guidance_scale)
        return sample_codes(next_logits, u, code_sampling).unflatten(1, self.grid)

    def next_logits(self, condition: Tensor | None, guidance_scale: float) -> Callable[[Tensor], Tensor]:
        """A function (last codes (N, 1), or (N, 0) at the start) -> logits of the next code (N, K).

        With guidance they are `guided_logits`.

        Raises:
            UserError: guidance without a condition.
        """
        if guidance_scale != 1 and condition is None:
            raise UserError("guidance_scale needs a conditional model: leave it out")
        caches = {True: Cache(), False: Cache()}  # with and without the condition

        def logits(codes: Tensor) -> Tensor:
            return guided_logits(
                lambda own: self.network(codes, own, caches[own is condition])[:, -1].float(), condition, guidance_scale
            )

        return logits


def guided_logits(logits_of: Callable[[Tensor | None], Tensor], condition: Tensor | None, guidance_scale: float) -> Tensor:
    """l_u + scale (l_c - l_u), with the logits l_c of the condition and l_u of the null condition (arXiv:2207.12598)."""
    conditional = logits_of(condition)
    if guidance_scale == 1 or condition is None:
        return conditional
    unconditional = logits_of(torch.zeros_like(condition))
    return unconditional + guidance_scale * (conditional - unconditional)


def corrupt_codes(codes: Tensor, num_codes: int, probability: float) -> Tensor:
    """`codes` (N, h, w), each replaced by a uniformly random code with this probability."""
    is_corrupted = torch.rand(codes.shape, device=codes.device) < probability
    return torch.where(is_corrupted, torch.randint_like(codes, num_codes), codes)
