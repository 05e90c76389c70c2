"""Sampling the next token from logits: temperature, top-k and top-p, with one uniform number for each token."""

from dataclasses import dataclass

import torch
from torch import Tensor

from genai.errors import UserError
from genai.models.watermarks import GreenList


@dataclass(frozen=True)
class TokenSampling:
    """How a token is sampled from logits.

    Args:
        temperature: divides the logits; 0 always takes the most likely token.
        top_k: sample from the k most likely tokens; 0 means all.
        top_p: sample from the smallest set of most likely tokens with at least this probability, in (0, 1] (Holtzman et al.
            2019, arXiv:1904.09751).
        green: watermark that makes the tokens of its green list more likely; None for none.

    Raises:
        UserError: a value is out of range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    green: GreenList | None = None

    def __post_init__(self) -> None:
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise UserError(
                f"temperature {self.temperature}, top_k {self.top_k}, top_p {self.top_p}: use temperature >= 0, top_k >= 0 "
                "and 0 < top_p <= 1"
            )

    def probabilities(self, logits: Tensor) -> Tensor:
        """logits (N, K) -> probabilities (N, K) float64, up to a factor for each row."""
        if self.temperature == 0:
            return torch.zeros_like(logits, dtype=torch.float64).scatter_(1, logits.argmax(dim=1, keepdim=True), 1.0)
        logits = logits.double()
        logits = (logits - logits.amax(dim=1, keepdim=True)) / self.temperature  # none overflows
        if 0 < self.top_k < logits.shape[1]:
            kept = logits.sort(dim=1, descending=True, stable=True).indices[:, : self.top_k]  # the first of equal ones
            logits = torch.full_like(logits, -torch.inf).scatter_(1, kept, logits.gather(1, kept))
        p = logits.softmax(dim=1)
        if self.top_p < 1:
            ordered, order = p.sort(dim=1, descending=True)
            ordered = ordered * (ordered.cumsum(dim=1) - ordered < self.top_p)  # the more likely tokens have less than top_p
            p = torch.zeros_like(p).scatter_(1, order, ordered)
        return p

    def sample(self, logits: Tensor, u: Tensor, previous: Tensor | None = None) -> Tensor:
        """The first token whose cumulative probability exceeds u: logits (N, K), u (N,) in [0, 1) -> (N,) int64.

        `previous` (N,) are the tokens before, which a watermark depends on; without them there is no mark.
        """
        if self.green is not None and previous is not None:
            logits = self.green.favour(logits, previous)
        cumulative = self.probabilities(logits).cumsum(dim=1)
        return (cumulative <= u[:, None].double() * cumulative[:, -1:]).sum(dim=1)
