"""Windows of a text: batches of tokens, and the order of those of training."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch.utils.data.distributed import DistributedSampler

from genai.data.order import TrainingOrder
from genai.data.token_cache import TokenSplit
from genai.errors import UserError


class TokenBatch(NamedTuple):
    """A batch of windows of a text.

    tokens: (N, context_length + 1) int64; -1 after the end of the text.
    num_bytes: (N, context_length + 1) int64, the bytes of each token.
    """

    tokens: Tensor
    num_bytes: Tensor


class Windows(Dataset[TokenBatch]):
    """Windows of `length` + 1 tokens: number i starts at i * stride; -1 stands after the end of the text.

    Args:
        tokens: (L,).
        num_bytes: of each token of the vocabulary.
        length: of the context.
        stride: tokens from one window to the next.
    """

    def __init__(self, tokens: np.ndarray, num_bytes: np.ndarray, length: int, stride: int) -> None:
        self.tokens = tokens
        self.num_bytes = num_bytes
        self.length = length
        self.stride = stride

    def __len__(self) -> int:
        """Windows with at least two tokens that are not all in the one before; at stride 1 all that are full."""
        if self.stride == 1:
            return max(len(self.tokens) - self.length, 1)
        return max(-(-(len(self.tokens) - 1) // self.stride), 1)

    def __getitem__(self, index: int) -> TokenBatch:
        """One window, a batch of one."""
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> TokenBatch:
        """DataLoader's protocol for a whole batch in one call."""
        at = np.asarray(indices)[:, None] * self.stride + np.arange(self.length + 1)  # (N, length + 1)
        tokens = np.asarray(self.tokens)[at.clip(max=len(self.tokens) - 1)].astype(np.int64)
        is_text = at < len(self.tokens)
        num_bytes = np.where(is_text, self.num_bytes[tokens], 0)
        return TokenBatch(torch.from_numpy(np.where(is_text, tokens, -1)), torch.from_numpy(num_bytes))


class DocumentBatch(NamedTuple):
    """A batch of documents.

    tokens, num_bytes: (N, context_length + 1) int64, as in `TokenBatch`; the first token is the end of a document.
    labels: (N,) int64, the classes; zeros where there are none.
    """

    tokens: Tensor
    num_bytes: Tensor
    labels: Tensor


class DocumentWindows(Dataset[DocumentBatch]):
    """Documents: the end-of-document token, then the first `length` tokens of a document with its own end, then -1.

    Args:
        split: its documents.
        end: the token at the end of a document.
        num_bytes: of each token of the vocabulary.
        length: of the context.
        classes: names of the classes; the label of a document is one of them. Empty for no labels.
    """

    def __init__(self, split: TokenSplit, end: int, num_bytes: np.ndarray, length: int, classes: Sequence[str] = ()) -> None:
        self.tokens = split.tokens
        self.spans = split.documents
        self.end = end
        self.num_bytes = num_bytes
        self.length = length
        numbers = [classes.index(span.label) if classes else 0 for span in self.spans]
        self.labels = np.array(numbers, np.int64)

    def __len__(self) -> int:
        return len(self.spans)

    def __getitem__(self, index: int) -> DocumentBatch:
        """One document, a batch of one."""
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> DocumentBatch:
        """DataLoader's protocol for a whole batch in one call."""
        tokens = np.full((len(indices), self.length + 1), -1, np.int64)
        tokens[:, 0] = self.end
        for row, index in zip(tokens, indices, strict=True):
            _, start, stop, _ = self.spans[index]
            own = self.tokens[start : min(stop, start + self.length)]
            row[1 : 1 + len(own)] = own
        num_bytes = np.where(tokens >= 0, self.num_bytes[tokens], 0)
        labels = torch.from_numpy(self.labels[list(indices)])
        return DocumentBatch(torch.from_numpy(tokens), torch.from_numpy(num_bytes), labels)


class WindowSampler(DistributedSampler):
    """The starts of one rank's training windows, a function of (seed, epoch, number of ranks).

    The windows of an epoch lie side by side from a random offset on. Each pass begins at `order.start_pass()`. The length is
    that of a whole epoch, because the Trainer skips in its own counting. It is a DistributedSampler because Lightning replaces
    all others.
    """

    def __init__(self, windows: Windows, num_ranks: int, rank: int, order: TrainingOrder) -> None:
        super().__init__(windows, num_ranks, rank)
        self.num_starts = len(windows)
        self.length = windows.length
        self.order = order
        self.num_windows = max(len(windows) // self.length, 1)
        if self.num_windows < num_ranks:
            raise UserError(f"{self.num_windows} windows cannot be shared by {num_ranks} processes: use fewer, or more text")

    def __len__(self) -> int:
        return self.num_windows // self.num_replicas

    def __iter__(self) -> Iterator[int]:
        epoch, seen = self.order.start_pass()
        generator = np.random.default_rng([self.order.settings["seed"], epoch])
        offset = int(generator.integers(self.num_starts - (self.num_windows - 1) * self.length))
        starts = offset + generator.permutation(self.num_windows) * self.length
        mine = starts[self.rank :: self.num_replicas][: len(self)]
        return islice(iter(mine.tolist()), seen, None)
