"""Sampling codes one after another from logits, with one uniform number for each code."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from genai.models.token_sampling import TokenSampling


@dataclass(frozen=True)
class CodeSampling(TokenSampling):
    """How codes are sampled from logits: temperature, top_k and top_p of `TokenSampling`, and guidance.

    Args:
        temperature, top_k, top_p: see `TokenSampling`.
        guidance_scale: of classifier-free guidance on the logits; 1 means no guidance.

    Raises:
        UserError: a value is out of range.
    """

    guidance_scale: float = 1.0


def sample_codes(next_logits: Callable[[Tensor], Tensor], u: Tensor, code_sampling: CodeSampling) -> Tensor:
    """Sample L codes, one after another: (N, L) int64.

    Args:
        next_logits: the last codes (N, 1), or (N, 0) at the start -> logits of the next codes (N, K).
        u: uniform numbers (N, L) in [0, 1), one for each code.
        code_sampling: temperature, top-k and top-p.
    """
    codes = torch.empty(u.shape[0], 0, dtype=torch.long, device=u.device)
    for i in range(u.shape[1]):
        sampled = code_sampling.sample(next_logits(codes[:, -1:]), u[:, i])
        codes = torch.cat([codes, sampled[:, None]], dim=1)
    return codes
