"""n-grams with interpolated modified Kneser-Ney smoothing (Chen & Goodman 1999, section 3.4), as a module with counts."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from genai.errors import UserError
from genai.networks.transformer import Cache

NUM_DISCOUNTS = 3  # of n-grams that were counted once, twice and more often


class Level(NamedTuple):
    """The k-grams of one length k.

    keys: sorted, a label and a k-gram as a number in base vocab_size, (M,) int64; see `KneserNey.encoded`.
    counts: (M,) float64: of the longest n-grams how often they occur, of others the number of tokens that precede them.
    contexts: sorted, the labels and the first k - 1 tokens of the k-grams, (C,) int64.
    totals: the sum of the counts after each context, (C,) float64.
    backoff: the probability mass after each context that the discounts free, (C,) float64.
    discounts: D_1, D_2 and D_3+, (3,) float64.
    """

    keys: Tensor
    counts: Tensor
    contexts: Tensor
    totals: Tensor
    backoff: Tensor
    discounts: Tensor


class KneserNey(nn.Module):
    """p(token | the n - 1 tokens before it), from counts.

    p_k(w | c) = (max(count(c w) - D, 0) + backoff(c) p_(k-1)(w | c without its first token)) / total(c), where the counts of
    k < n are those of distinct tokens before the k-gram, and p_0 is uniform. Only the n-grams of the longest length are stored:
    the others follow from them. With labels, the label belongs to the context at every length: p_0 alone is that of all labels.

    Args:
        vocab_size: V.
        order: n.
        num_classes: labels K of the texts that it is conditioned on; 0 for none.
        by_document: whether each window begins a document with a token of its own. It then counts as n - 1 such tokens, so that
            the first n - 1 tokens after it, which are no n-gram, are learned too.

    Raises:
        UserError: (K + 1) V^n does not fit into 63 bits.
    """

    keys: Tensor
    counts: Tensor
    by_document: Tensor

    def __init__(self, vocab_size: int, order: int, num_classes: int = 0, by_document: bool = False) -> None:
        super().__init__()
        if order < 1 or (num_classes + 1) * vocab_size**order >= 2**63:
            raise UserError(
                f"order {order} is out of range for {vocab_size:,} tokens: use a smaller one, so that V^n is below 2^63"
            )
        self.vocab_size = vocab_size
        self.order = order
        self.register_buffer("keys", torch.empty(0, dtype=torch.long))
        self.register_buffer("counts", torch.empty(0, dtype=torch.long))
        self.register_buffer("by_document", torch.tensor(by_document))
        self.discounts = nn.Parameter(torch.zeros(order, NUM_DISCOUNTS))  # in closed form; DDP wants a parameter
        self.pending: list[Tensor] = []
        self.levels: list[Level] = []

    # -- counting -------------------------------------------------------------------------------------------------------

    def add(self, tokens: Tensor, labels: Tensor | None = None) -> None:
        """Count the n-grams of windows (N, L), -1 is padding at their ends; those with labels (N,) count without it too."""
        tokens = torch.cat([self.start_of(tokens), tokens], dim=1)
        grams = tokens.unfold(1, self.order, 1) if tokens.shape[1] >= self.order else tokens[:, :0, None]
        is_text = (grams >= 0).all(dim=-1)  # (N, M)
        self.pending.append(self.encoded(grams)[is_text])
        if labels is not None:
            self.pending.append(self.encoded(grams, labels[:, None] + 1)[is_text])
        self.levels = []

    def start_of(self, tokens: Tensor) -> Tensor:
        """What stands before windows (N, L): copies of the first token of documents (N, n - 2), otherwise nothing (N, 0)."""
        num = self.order - 2 if self.by_document and self.order > 2 and tokens.shape[1] else 0
        return tokens[:, :1].expand(-1, num)

    def encoded(self, grams: Tensor, labels: Tensor | int = 0) -> Tensor:
        """k-grams (..., k) -> numbers (...,) int64 in base V, the label the most significant digit, then the first token.

        Args:
            grams: (..., k).
            labels: 0 for the null condition, 1, ..., K for the labels; broadcast to (...).
        """
        length = grams.shape[-1]
        powers = self.vocab_size ** torch.arange(length - 1, -1, -1, device=grams.device)
        return labels * self.vocab_size**length + (grams * powers).sum(dim=-1)

    def merge(self) -> None:
        """Add what was counted since the last merge to `keys` and `counts`."""
        if not self.pending:
            return
        new, new_counts = torch.cat(self.pending).to(self.keys.device).unique(return_counts=True)
        self.pending = []
        self.keys, where = torch.cat([self.keys, new]).unique(return_inverse=True)
        both = torch.cat([self.counts, new_counts])
        self.counts = torch.zeros_like(self.keys).index_add_(0, where, both)
        self.levels = []

    def build(self) -> list[Level]:
        """The levels 1, ..., n, made if the counts have changed."""
        self.merge()
        if not self.levels:
            keys, counts = self.keys, self.counts.double()
            for k in range(self.order, 0, -1):
                self.levels.insert(0, make_level(keys, counts, self.vocab_size))
                labels, shorter = keys // self.vocab_size**k, keys % self.vocab_size ** (k - 1)  # without the first token
                keys, number = (labels * self.vocab_size ** (k - 1) + shorter).unique(return_counts=True)
                counts = number.double()
            self.discounts.data.copy_(torch.stack([level.discounts for level in self.levels]))
        return self.levels

    # -- probabilities --------------------------------------------------------------------------------------------------

    def log_probs(self, tokens: Tensor, labels: Tensor | None = None) -> Tensor:
        """ln p of each token, given the tokens before it in its row and its label (N,): (N, L) -> (N, L) float64."""
        digits = 0 if labels is None else labels[:, None] + 1
        start = self.start_of(tokens)
        tokens = torch.cat([start, tokens], dim=1)
        p = torch.full(tokens.shape, 1 / self.vocab_size, dtype=torch.float64, device=tokens.device)
        for k, level in enumerate(self.build()[: tokens.shape[1]], start=1):
            grams = self.encoded(tokens.unfold(1, k, 1), digits)  # (N, L - k + 1), ends at token k - 1
            p[:, k - 1 :] = interpolated(level, grams, grams // self.vocab_size, p[:, k - 1 :])
        return p[:, start.shape[1] :].log()

    def forward(self, tokens: Tensor, condition: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """ln p of the next token at every position.

        Args:
            tokens: (N, L).
            condition: (N, K) one-hot labels; zeros or None are the null condition. Read with an empty cache.
            cache: of earlier tokens: the last n - 1 of them, and the label.

        Returns:
            (N, 1 + L, vocab_size) float64; with a non-empty cache (N, L, vocab_size).
        """
        is_new = cache is None or not cache.layers
        start = self.start_of(tokens)
        history, labels = (start, digits_of(condition, tokens)) if is_new else cache.layers[0]  # type: ignore[union-attr]
        known = torch.cat([history, tokens], dim=1)
        ends = [*([0] if is_new else []), *range(history.shape[1] + 1, known.shape[1] + 1)]
        positions = [self.next_log_probs(known[:, max(end - self.order + 1, 0) : end], labels) for end in ends]
        if cache is not None:
            cache.length += len(positions)
            kept = known[:, max(known.shape[1] - self.order + 1, 0) :]
            cache.layers = [(kept, labels)]
        return torch.stack(positions, dim=1)

    def next_log_probs(self, contexts: Tensor, labels: Tensor | int = 0) -> Tensor:
        """ln p of every token after contexts (N, at most n - 1) and labels, see `encoded`: (N, V) float64."""
        num, length = contexts.shape
        p = torch.full((num, self.vocab_size), 1 / self.vocab_size, dtype=torch.float64, device=contexts.device)
        for k, level in enumerate(self.build()[: length + 1], start=1):
            context = self.encoded(contexts[:, length - k + 1 :], labels)[:, None]  # (N, 1)
            grams = context * self.vocab_size + torch.arange(self.vocab_size, device=contexts.device)
            p = interpolated(level, grams, context.expand_as(grams), p)
        return p.log()

    # -- state ----------------------------------------------------------------------------------------------------------

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        self.build()
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *arguments: Any) -> None:
        """Take tables of any length."""
        for name in ("keys", "counts"):
            if isinstance(loaded := state_dict.get(prefix + name), Tensor) and loaded.ndim == 1:
                setattr(self, name, torch.empty_like(loaded, dtype=torch.long, device=self.keys.device))
        self.pending, self.levels = [], []
        super()._load_from_state_dict(state_dict, prefix, *arguments)  # type: ignore[arg-type]


def digits_of(condition: Tensor | None, tokens: Tensor) -> Tensor:
    """The first digit of the k-grams of tokens (N, L): 0, or 1 + the label of a one-hot condition (N, K); (N,) int64."""
    if condition is None:
        return tokens.new_zeros(len(tokens))
    return torch.where(condition.any(dim=1), condition.argmax(dim=1) + 1, 0)


def make_level(keys: Tensor, counts: Tensor, vocab_size: int) -> Level:
    """The level of sorted keys (M,) with their counts (M,) float64."""
    contexts, where = (keys // vocab_size).unique_consecutive(return_inverse=True)
    totals = torch.zeros(len(contexts), dtype=torch.float64, device=keys.device).index_add_(0, where, counts)
    discounts = discounts_of(counts)
    freed = torch.zeros_like(totals).index_add_(0, where, discount(counts, discounts))
    return Level(keys, counts, contexts, totals, freed, discounts)


def discounts_of(counts: Tensor) -> Tensor:
    """D_1, D_2 and D_3+ of Chen & Goodman, equation 26, from the number of k-grams with counts 1 to 4: (3,) float64.

    Where one of the numbers is 0, or a D is not positive, as in short texts, D is 1/2 for all: each context leaves something to
    the tokens that were not seen after it.
    """
    n = torch.stack([(counts == j).sum() for j in range(1, NUM_DISCOUNTS + 2)]).double()
    y = n[0] / (n[0] + 2 * n[1])
    j = torch.arange(1, NUM_DISCOUNTS + 1, device=counts.device)
    found = j - (j + 1) * y * n[1:] / n[:-1]
    return found if bool((n > 0).all() and (found > 0).all()) else torch.full_like(found, 0.5)


def discount(counts: Tensor, discounts: Tensor) -> Tensor:
    """The discount of each count, which is at least 1: same shape."""
    return discounts[counts.long().clamp(max=NUM_DISCOUNTS) - 1]


def interpolated(level: Level, grams: Tensor, contexts: Tensor, lower: Tensor) -> Tensor:
    """p_k of k-grams, from p_(k-1) of their last k - 1 tokens; after a context that was not seen, p_(k-1) itself.

    Args:
        level: of length k.
        grams: the k-grams as numbers, of any shape.
        contexts: their first k - 1 tokens, same shape.
        lower: p_(k-1), same shape.
    """
    if not len(level.keys):
        return lower
    grams, contexts = grams.contiguous(), contexts.contiguous()
    at = torch.searchsorted(level.keys, grams).clamp(max=len(level.keys) - 1)
    counts = torch.where(level.keys[at] == grams, level.counts[at], 0.0)
    where = torch.searchsorted(level.contexts, contexts).clamp(max=len(level.contexts) - 1)
    kept = torch.where(counts > 0, counts - discount(counts.clamp(min=1), level.discounts), 0.0)
    p = (kept + level.backoff[where] * lower) / level.totals[where]
    return torch.where(level.contexts[where] == contexts, p, lower)
