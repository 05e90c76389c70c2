"""The base of every text model: log-probability of a text, next-token distribution, sampling; one contract for all."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax
from torchmetrics import SumMetric

from genai.errors import UserError
from genai.models.base import Model
from genai.models.conditions import encode_labels
from genai.models.seeds import seeded_uniform
from genai.models.token_sampling import TokenSampling
from genai.networks.transformer import Cache

WINDOWS_AT_ONCE = 16


class TextModel(Model):
    """A model of sequences of tokens, p(token | earlier tokens).

    `network` maps tokens (N, L) and a `Cache` to the logits of the next token at each position: (N, 1 + L, vocab_size), or
    (N, L, vocab_size) where the cache has earlier tokens. A subclass sets it in its `__init__` and implements training.

    Args:
        vocab_size: number of tokens, linked from the data.
        context_length: of the training windows, linked from the data.
        compile: see `Model`.
        num_classes: of a class-conditional model, linked from the data; 0 for none.
    """

    unit = "tokens"
    val_metrics: tuple[str, ...] | None = ("loss", "bits_per_byte")
    sample_chunk: int = 8
    network: nn.Module

    def __init__(self, vocab_size: int, context_length: int, compile: bool | str = False, num_classes: int = 0) -> None:
        super().__init__(compile)
        self.num_classes = num_classes
        self.vocab_size = vocab_size
        self.context_length = context_length
        self.sums = TokenSums()

    def trained_network(self) -> nn.Module:
        return self.network

    @property
    def averaged_network(self) -> nn.Module:
        """The averaged network, or the network of a model without averages."""
        return self.averaged.network if hasattr(self, "averaged") else self.network

    # -- likelihood -----------------------------------------------------------------------------------------------------

    def log_probs(self, tokens: Tensor, condition: Tensor | None = None) -> Tensor:
        """ln p of each token given the tokens before it in its row: (N, L), L <= context_length + 1 -> (N, L).

        Args:
            tokens: (N, L).
            condition: (N,) int64 labels of a class-conditional model.
        """
        one_hot = None if condition is None else encode_labels(condition, self.num_classes)
        return log_probs_of(self.averaged_network(tokens[:, :-1], one_hot), tokens)

    @torch.no_grad()
    def text_log_probs(self, tokens: Tensor, stride: int | None = None) -> Tensor:
        """ln p of each token of a text of any length: (L,) -> (L,) float64.

        The text is read in windows of context_length + 1 tokens; each token counts in the first window that has it, so it is
        predicted from the context_length - stride + 1 to context_length tokens before it (fewer at the start of the text).

        Args:
            tokens: (L,) int64.
            stride: tokens from one window to the next, 1 to context_length; default: context_length, the fastest.

        Raises:
            UserError: the stride is out of range.
        """
        length = self.context_length
        stride = length if stride is None else stride
        if not 1 <= stride <= length:
            raise UserError(f"stride {stride} is out of range: use 1 to {length}, the length of the context")
        tokens = tokens.to(self.device)
        starts = range(0, max(len(tokens) - 1 - (length - stride), 1), stride)
        found = torch.empty(len(tokens), dtype=torch.float64)
        known = 0
        for i in range(0, len(starts), WINDOWS_AT_ONCE):
            rows = [tokens[start : start + length + 1] for start in starts[i : i + WINDOWS_AT_ONCE]]
            padded = nn.utils.rnn.pad_sequence(rows, batch_first=True)  # (N, at most length + 1)
            values = self.log_probs(padded).double().cpu()
            for start, row, value in zip(starts[i : i + WINDOWS_AT_ONCE], rows, values, strict=True):
                found[known : start + len(row)] = value[known - start : len(row)]
                known = start + len(row)
        return found

    # -- sampling -------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def next_log_probs(self, tokens: Tensor, cache: Cache) -> Tensor:
        """ln p of the next token after the cached tokens and `tokens` (N, L): (N, V); the cache is brought up to date."""
        return log_softmax(self.averaged_network(tokens, cache=cache)[:, -1].float(), dim=-1)

    def stream(
        self,
        seeds: Sequence[int],
        prompt: Tensor | None = None,
        num_tokens: int = 256,
        chunk: int | None = None,
        **settings: Any,
    ) -> Iterator[Tensor]:
        """Sample tokens one after another: yields `num_tokens` times the next token of each sample, (len(seeds),) int64.

        Row i depends on `seeds[i]` and the prompt alone: rows are computed in chunks of `chunk`, the last one padded,
        since matrix kernels may round differently for another number of rows. When the context is full, the network goes on
        with its second half.

        Args:
            seeds: N integers in [0, 2**63).
            prompt: tokens (L,) that the samples continue; None for the start of a text.
            num_tokens: new tokens of each sample.
            chunk: samples at once; `sample_chunk` by default.
            settings: temperature, top_k, top_p and green, see `TokenSampling`.
        """
        chunk = chunk or self.sample_chunk
        chunks = [
            self.stream_chunk(seeds[start : start + chunk], chunk, prompt, num_tokens, TokenSampling(**settings))
            for start in range(0, len(seeds), chunk)
        ]
        for parts in zip(*chunks, strict=True):
            yield torch.cat(parts)

    def stream_chunk(
        self, seeds: Sequence[int], chunk: int, prompt: Tensor | None, num_tokens: int, sampling: TokenSampling
    ) -> Iterator[Tensor]:
        """`stream` for at most `chunk` seeds."""
        rows = [*seeds, *[seeds[-1]] * (chunk - len(seeds))]
        u = seeded_uniform(rows, (num_tokens,), self.device)
        empty = torch.empty(0, dtype=torch.long)
        new = (empty if prompt is None else prompt).to(self.device).expand(len(rows), -1)  # not yet in the cache
        known, cache = new, Cache()
        limit = getattr(self.averaged_network, "context_length", None)  # recurrent networks have none
        if limit is not None and new.shape[1] > limit:
            new = new[:, -limit:]
        for i in range(num_tokens):
            if limit is not None and cache.length + new.shape[1] > limit + (cache.length > 0):
                cache, new = Cache(), known[:, -(limit // 2 + 1) :]
            previous = known[:, -1] if known.shape[1] else None
            token = sampling.sample(self.next_log_probs(new, cache), u[:, i], previous)
            new = token[:, None]
            known = torch.cat([known, new], dim=1)
            yield token[: len(seeds)]

    def sample(self, seeds: Sequence[int], condition: Tensor | None = None, num_tokens: int = 256, **settings: Any) -> Tensor:
        """Sample one text for each seed with the averaged weights: (len(seeds), num_tokens) int64, without the prompt.

        Args:
            seeds: N integers in [0, 2**63).
            condition: the prompt, tokens (L,).
            num_tokens: new tokens of each sample.
            settings: temperature, top_k, top_p and green, see `TokenSampling`.
        """
        return torch.stack(list(self.stream(seeds, condition, num_tokens, **settings)), dim=1)

    # -- evaluation -----------------------------------------------------------------------------------------------------

    def validation_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        """Add a batch of windows; the first token of a window is the last target of the one before it."""
        tokens, num_bytes, *labels = batch
        is_text = tokens[:, 1:] >= 0
        condition = labels if self.num_classes else ()
        log_probs = self.log_probs(tokens.clamp(min=0), *condition)[:, 1:].double()
        self.sums.update(-log_probs[is_text].sum(), is_text.sum(), num_bytes[:, 1:].sum())

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        self.log_sums("val")

    def on_test_epoch_end(self) -> None:
        self.log_sums("test")

    def log_sums(self, split: str) -> None:
        """Log SPLIT/loss in nats per token and SPLIT/bits_per_byte, the same on all devices."""
        values = self.sums.compute()
        self.log_dict({f"{split}/{name}": value for name, value in values.items()}, prog_bar=True)
        self.sums.reset()


class TokenSums(nn.Module):
    """Nats, tokens and bytes of the batches of all devices."""

    def __init__(self) -> None:
        super().__init__()
        self.nats, self.tokens, self.bytes = (SumMetric().set_dtype(torch.float64) for _ in range(3))

    def update(self, nats: Tensor, tokens: Tensor, num_bytes: Tensor) -> None:
        for metric, value in ((self.nats, nats), (self.tokens, tokens), (self.bytes, num_bytes)):
            metric.update(value.double())

    def compute(self) -> dict[str, Tensor]:
        """`loss` in nats per token and `bits_per_byte`."""
        nats, tokens, num_bytes = (metric.compute() for metric in (self.nats, self.tokens, self.bytes))
        return {"loss": (nats / tokens).float(), "bits_per_byte": (nats / torch.log(torch.tensor(2.0)) / num_bytes).float()}

    def reset(self) -> None:
        for metric in (self.nats, self.tokens, self.bytes):
            metric.reset()


def log_probs_of(logits: Tensor, tokens: Tensor) -> Tensor:
    """ln p of tokens (N, L) from the logits (N, L, V) of each."""
    return log_softmax(logits.float(), dim=-1).gather(-1, tokens[..., None])[..., 0]
