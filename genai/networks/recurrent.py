"""Recurrent networks of tokens: an LSTM, and minGRU, which trains in parallel.

Both map tokens to the logits of the next token at every position, as the transformer does, and keep their states in its
`Cache`.
"""

from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from genai.errors import check_at_least
from genai.networks.normalisation import rms_norm
from genai.networks.transformer import Cache

WIDTH = 4  # positions that the convolution before each minGRU sees


class LSTM(nn.Module):
    """Long short-term memory (Hochreiter & Schmidhuber 1997): tokens -> logits of the next token at every position.

    Args:
        vocab_size: number of tokens.
        context_length: not used: the state has no limit.
        dim: length of the embeddings and of the hidden state.
        depth: number of layers.
        dropout: dropout probability of the embeddings, between layers and of the output.
    """

    def __init__(self, vocab_size: int, context_length: int, dim: int = 256, depth: int = 2, dropout: float = 0.0) -> None:
        super().__init__()
        check_at_least("depth", depth, 1)
        self.tokens = nn.Embedding(vocab_size, dim)
        self.start = nn.Parameter(torch.randn(dim))
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.LSTM(dim, dim, depth, batch_first=True, dropout=dropout if depth > 1 else 0.0)
        self.logits = nn.Linear(dim, vocab_size)
        nn.init.zeros_(self.logits.weight)
        nn.init.zeros_(self.logits.bias)

    def forward(self, tokens: Tensor, condition: None = None, cache: Cache | None = None) -> Tensor:
        """tokens (N, L) -> (N, 1 + L, vocab_size), see `Transformer.forward`; with a non-empty cache (N, L, vocab_size)."""
        x = with_start(self.tokens(tokens), self.start, cache)
        on_cpu = x.device.type == "cpu"  # many processors have no LSTM in bfloat16
        with torch.autocast("cpu", enabled=False) if on_cpu else nullcontext():
            y, state = self.layers(self.dropout(x), cache.layers[0] if cache is not None and cache.layers else None)
        if cache is not None:
            cache.length += x.shape[1]
            cache.layers = [state]
        return self.logits(self.dropout(y))  # type: ignore[no-any-return]


class MinGRUBlock(nn.Module):
    """Pre-norm residual minGRU, after a short causal convolution, and an MLP with squared ReLU.

    h_t = (1 - z_t) h_(t-1) + z_t W_h x_t, z_t = sigmoid(W_z x_t): neither depends on h, so that all h can be computed at once
    (Feng et al. 2024, arXiv:2410.01201, section 3.1).
    """

    def __init__(self, dim: int, expansion: float, mlp_ratio: float, dropout: float) -> None:
        super().__init__()
        inner = int(dim * expansion)
        self.convolution = nn.Parameter(torch.tensor([0.0] * (WIDTH - 1) + [1.0]).repeat(dim, 1))  # (dim, WIDTH): identity
        self.gates = nn.Linear(dim, 2 * inner, bias=False)
        self.mix = nn.Linear(inner, dim, bias=False)
        self.expand = nn.Linear(dim, int(dim * mlp_ratio), bias=False)
        self.project = nn.Linear(int(dim * mlp_ratio), dim, bias=False)
        nn.init.zeros_(self.mix.weight)
        nn.init.zeros_(self.project.weight)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """x (N, L, dim) and the state (h (N, inner), the last inputs of the convolution) -> the same after x."""
        y = rms_norm(x)
        tail = y.new_zeros(len(y), WIDTH - 1, y.shape[2]) if state is None else state[1]
        window = torch.cat([tail, y], dim=1)  # (N, WIDTH - 1 + L, dim)
        shifted = (window[:, i : i + y.shape[1]] * self.convolution[:, i].to(y.dtype) for i in range(WIDTH))
        y = torch.stack(list(shifted)).sum(dim=0)
        z, candidate = self.gates(y).float().chunk(2, dim=-1)
        z = z.sigmoid()
        h = scan(1 - z, z * candidate, None if state is None else state[0])
        x = x + self.dropout(self.mix(rms_norm(h).to(x.dtype)))
        squared = relu(self.expand(rms_norm(x))).square()
        return x + self.dropout(self.project(squared)), (h[:, -1], window[:, 1 - WIDTH :])


class MinGRU(nn.Module):
    """Blocks of minGRU: tokens -> logits of the next token at every position.

    Args:
        vocab_size: number of tokens.
        context_length: not used: the state has no limit.
        dim: length of the embeddings.
        depth: number of blocks.
        expansion: length of a hidden state, as a multiple of dim.
        mlp_ratio: hidden units of an MLP, as a multiple of dim.
        dropout: dropout probability of the embeddings and of each residual branch.
    """

    def __init__(
        self,
        vocab_size: int,
        context_length: int,
        dim: int = 128,
        depth: int = 4,
        expansion: float = 2.0,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, dim)
        self.start = nn.Parameter(torch.randn(dim))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(MinGRUBlock(dim, expansion, mlp_ratio, dropout) for _ in range(depth))
        self.logits = nn.Linear(dim, vocab_size, bias=False)
        nn.init.zeros_(self.logits.weight)

    def forward(self, tokens: Tensor, condition: None = None, cache: Cache | None = None) -> Tensor:
        """tokens (N, L) -> (N, 1 + L, vocab_size), see `Transformer.forward`; with a non-empty cache (N, L, vocab_size)."""
        x = with_start(self.tokens(tokens), self.start, cache)
        x = self.dropout(rms_norm(x))
        earlier = cache.layers if cache is not None and cache.layers else [None] * len(self.blocks)
        states = []
        for block, state in zip(self.blocks, earlier, strict=True):
            x, state = block(x, state)
            states.append(state)
        if cache is not None:
            cache.length += tokens.shape[1] + (cache.length == 0)
            cache.layers = states
        return self.logits(rms_norm(x))  # type: ignore[no-any-return]

    def hidden_matrices(self) -> list[nn.Parameter]:
        """The weight matrices of the blocks, without the convolutions, for an optimiser of matrices such as Muon."""
        named = self.blocks.named_parameters()
        return [parameter for name, parameter in named if parameter.ndim == 2 and not name.endswith("convolution")]


def with_start(x: Tensor, start: Tensor, cache: Cache | None) -> Tensor:
    """Embeddings x (N, L, dim), after the one of the start (dim,) where no earlier position is cached."""
    if cache is not None and cache.length:
        return x
    return torch.cat([start.expand(len(x), 1, -1).to(x.dtype), x], dim=1)


def scan(keep: Tensor, values: Tensor, h: Tensor | None) -> Tensor:
    """h_t = keep_t h_(t-1) + values_t for all t: (N, L, D).

    On a GPU, all positions at once by an associative scan of ceil(log2 L) steps: after step k, h_t has the terms of the last
    2^k positions (Hillis & Steele 1986). All factors are below 1, so it needs no logarithms. On a CPU a loop is twice as fast.

    Args:
        keep: (N, L, D) in (0, 1).
        values: (N, L, D).
        h: the earlier state (N, D); None for zeros.
    """
    if h is not None:
        values = torch.cat([values[:, :1] + keep[:, :1] * h[:, None], values[:, 1:]], dim=1)
    return scan_in_order(keep, values) if values.device.type == "cpu" else scan_in_parallel(keep, values)


def scan_in_parallel(keep: Tensor, values: Tensor) -> Tensor:
    """`scan` from h = 0 in ceil(log2 L) steps."""
    shift = 1
    while shift < values.shape[1]:
        later = values[:, shift:] + keep[:, shift:] * values[:, :-shift]
        values = torch.cat([values[:, :shift], later], dim=1)
        keep = torch.cat([keep[:, :shift], keep[:, shift:] * keep[:, :-shift]], dim=1)
        shift *= 2
    return values


def scan_in_order(keep: Tensor, values: Tensor) -> Tensor:
    """`scan` from h = 0, one position after another."""
    h, states = torch.zeros_like(values[:, 0]), []
    for k, v in zip(keep.unbind(1), values.unbind(1), strict=True):
        h = torch.addcmul(v, k, h)
        states.append(h)
    return torch.stack(states, dim=1)
