"""Drawing tokens one by one from logits: temperature, the likeliest only, one uniform number for each token."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from genai.errors import UserError


@dataclass(frozen=True)
class Drawing:
    """How tokens are drawn.

    Args:
        temperature: divides the logits; 0 takes the likeliest token.
        top_k: draw from so many likeliest tokens; 0 for all.
        top_p: draw from the likeliest tokens that have this share of the probability (Holtzman et al. 2019, arXiv:1904.09751).
        guidance_scale: of classifier-free guidance on the logits; 1 is none.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    guidance_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise UserError(
                f"temperature {self.temperature}, top_k {self.top_k} and top_p {self.top_p} draw nothing: "
                "use a temperature and top_k of 0 or more and a top_p above 0, at most 1"
            )

    def probabilities(self, logits: Tensor) -> Tensor:
        """logits (N, V) -> probabilities (N, V) float64 of the tokens to draw from."""
        if self.temperature == 0:
            return torch.zeros_like(logits, dtype=torch.float64).scatter_(1, logits.argmax(dim=1, keepdim=True), 1.0)
        logits = logits.double() / self.temperature
        if 0 < self.top_k < logits.shape[1]:
            logits = logits.masked_fill(logits < logits.topk(self.top_k).values[:, -1:], -torch.inf)
        p = logits.softmax(dim=1)
        if self.top_p < 1:
            ordered, order = p.sort(dim=1, descending=True)
            ordered = ordered * (ordered.cumsum(dim=1) - ordered < self.top_p)  # those before it have less than top_p
            p = torch.zeros_like(p).scatter_(1, order, ordered)
        return p

    def draw(self, logits: Tensor, u: Tensor) -> Tensor:
        """The token at which the cumulative probability passes u: logits (N, V), u (N,) in [0, 1) -> (N,) int64."""
        cumulative = self.probabilities(logits).cumsum(dim=1)
        return torch.searchsorted(cumulative, u[:, None].double() * cumulative[:, -1:], right=True)[:, 0]


def draw_sequence(next_logits: Callable[[Tensor], Tensor], u: Tensor, drawing: Drawing) -> Tensor:
    """Draw u.shape[1] tokens, one after another: (N, L) int64.

    Args:
        next_logits: the tokens drawn last (N, 1), none (N, 0) at first -> logits of the next one (N, V).
        u: uniform numbers (N, L), one for each token.
        drawing: how.
    """
    tokens = torch.empty(len(u), 0, dtype=torch.long, device=u.device)
    for i in range(u.shape[1]):
        drawn = drawing.draw(next_logits(tokens[:, -1:]), u[:, i])
        tokens = torch.cat([tokens, drawn[:, None]], dim=1)
    return tokens
