"""A hidden Markov model of tokens: the exact likelihood by the forward algorithm, differentiable."""

import torch
from torch import Tensor, nn

from genai.networks.transformer import Cache

SMALLEST = 1e-30  # keeps the filtered distribution normalised where every state excludes a token


class HiddenMarkov(nn.Module):
    """Hidden states that follow each other and emit tokens (Rabiner 1989).

    It is trained by the gradient of the exact likelihood; Baum-Welch has the same fixed points.

    Args:
        vocab_size: number of tokens.
        context_length: not used: the state has no limit.
        num_states: S.
    """

    def __init__(self, vocab_size: int, context_length: int, num_states: int = 128) -> None:
        super().__init__()
        self.initial = nn.Parameter(torch.zeros(num_states))
        self.transition = nn.Parameter(torch.randn(num_states, num_states))  # logits of row i: p(next state | state i)
        self.emission = nn.Parameter(torch.randn(num_states, vocab_size))  # logits of row i: p(token | state i)

    def forward(self, tokens: Tensor, condition: None = None, cache: Cache | None = None) -> Tensor:
        """ln p of the next token at every position, from the scaled forward algorithm (Rabiner 1989, section V).

        Args:
            tokens: (N, L).
            condition: not used.
            cache: of earlier tokens: the filtered distribution p(next state | earlier tokens).

        Returns:
            (N, 1 + L, vocab_size); with a non-empty cache (N, L, vocab_size).
        """
        transition, emission = self.transition.softmax(dim=1), self.emission.softmax(dim=1)
        is_new = cache is None or not cache.layers
        filtered = self.initial.softmax(dim=0).expand(len(tokens), -1) if is_new else cache.layers[0][0]  # type: ignore[union-attr]
        distributions = [filtered] if is_new else []
        observed = emission.t()[tokens]  # (N, L, S)
        for t in range(tokens.shape[1]):
            joint = filtered * observed[:, t]
            filtered = joint / joint.sum(dim=1, keepdim=True).clamp(min=SMALLEST) @ transition
            distributions.append(filtered)
        if cache is not None:
            cache.length += len(distributions)
            cache.layers = [(filtered, filtered)]
        return (torch.stack(distributions, dim=1) @ emission).clamp(min=SMALLEST).log()
