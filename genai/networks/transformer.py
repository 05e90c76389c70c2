"""A causal transformer: it maps tokens and a condition to the logits of the next token.

Pre-norm with RMSNorm (Zhang & Sennrich 2019, arXiv:1910.07467), normalised queries and keys, squared ReLU (So et al. 2021,
arXiv:2109.08668), rotary or learned positions, no biases. The condition is embedded in an additional first position. A `Cache`
keeps the keys and values of earlier positions, so that sampling a token computes one position.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import sdpa_kernel
from torch.nn.functional import relu, scaled_dot_product_attention

from genai.errors import UserError
from genai.networks.attention import sdpa_backends
from genai.networks.conditioning import ConditionerFactory, VectorConditioner
from genai.networks.normalisation import rms_norm

ROTARY_BASE = 10_000.0


class Cache:
    """What a sequence network keeps of earlier positions; its `forward` reads it and brings it up to date.

    A transformer keeps the keys and values of each block in (N, heads, room, dim / heads), where `room`, at least `length`,
    doubles when it is full; a recurrent network keeps the state of each layer.
    """

    def __init__(self) -> None:
        self.length = 0
        self.layers: list[tuple[Tensor, Tensor]] = []  # of each block or layer

    def extended(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append keys and values of new positions to those of block `layer`; returns all of them."""
        end = self.length + k.shape[2]
        if layer == len(self.layers):
            self.layers.append((k, v))
            return k, v
        if self.layers[layer][0].shape[2] < end:
            room = 2 * end
            old_k, old_v = self.layers[layer]
            self.layers[layer] = with_room(old_k, room), with_room(old_v, room)
        all_k, all_v = self.layers[layer]
        all_k[:, :, self.length : end] = k
        all_v[:, :, self.length : end] = v
        return all_k[:, :, :end], all_v[:, :, :end]


class Rotation(NamedTuple):
    """cos and sin of the angles of L positions, both (L, D): those of element i < D / 2 stand at i and at i + D / 2.

    The sine of the first half is negative, as in the first row of a rotation matrix.
    """

    cos: Tensor
    sin: Tensor


class CausalAttention(nn.Module):
    """Attention of each position to itself and to earlier positions.

    Args:
        dim: length of the embeddings; the output is zero at initialisation.
        num_heads: heads of dim / num_heads each.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.query_scale = nn.Parameter(torch.ones(dim // num_heads))
        self.key_scale = nn.Parameter(torch.ones(dim // num_heads))
        self.project = nn.Linear(dim, dim, bias=False)
        nn.init.zeros_(self.project.weight)

    def forward(self, x: Tensor, rotation: Rotation | None, layer: int, cache: Cache | None) -> Tensor:
        """x (N, L, dim) -> (N, L, dim); `rotation` is that of its positions, None for learned positions."""
        q, k, v = self.queries_keys_values(x, rotation)
        if cache is not None:
            k, v = cache.extended(layer, k, v)
        y = attend(q, k, v)
        return self.project(y.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def queries_keys_values(self, x: Tensor, rotation: Rotation | None) -> tuple[Tensor, Tensor, Tensor]:
        """Of x (N, L, dim), each (N, heads, L, dim / heads)."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        scale = torch.stack([self.query_scale, self.key_scale])[:, None, None, None]
        qk = rms_norm(qkv[:2]) * scale.to(qkv.dtype)  # (2, N, heads, L, dim / heads)
        q, k = qk if rotation is None else rotated(qk, rotation)
        return q, k, qkv[2]

    def weights(self, x: Tensor, rotation: Rotation | None) -> Tensor:
        """The attention of each position of x (N, L, dim) to the positions up to it: (N, heads, L, L), rows sum to 1."""
        q, k, _ = self.queries_keys_values(x, rotation)
        return attention_weights(q, k)


class TransformerBlock(nn.Module):
    """Pre-norm residual attention and MLP."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, dropout: float) -> None:
        super().__init__()
        inner = int(dim * mlp_ratio)
        self.attention = CausalAttention(dim, num_heads)
        self.expand = nn.Linear(dim, inner, bias=False)
        self.project = nn.Linear(inner, dim, bias=False)
        nn.init.zeros_(self.project.weight)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, rotation: Rotation | None, layer: int, cache: Cache | None) -> Tensor:
        """x (N, L, dim) -> (N, L, dim), see `CausalAttention`."""
        x = x + self.dropout(self.attention(rms_norm(x), rotation, layer, cache))
        h = relu(self.expand(rms_norm(x)))
        return x + self.dropout(self.project(h * h))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """Tokens and a condition -> logits of the next token at every position.

    Args:
        vocab_size: number of tokens.
        context_length: maximum number of tokens in a sequence.
        num_classes: width of the condition (classes, attributes, or words of a vocabulary); 0 for none.
        dim: length of the embeddings.
        depth: number of blocks.
        num_heads: attention heads.
        mlp_ratio: hidden units of an MLP, as a multiple of dim.
        positions: `learned`, one embedding for each position, or `rotary`, which encodes relative positions.
        dropout: dropout probability of the embeddings and of each residual branch.
        conditioner: factory of the network that embeds the condition; the default is VectorConditioner.
    """

    def __init__(
        self,
        vocab_size: int,
        context_length: int,
        num_classes: int = 0,
        dim: int = 128,
        depth: int = 4,
        num_heads: int = 4,
        mlp_ratio: float = 4.0,
        positions: Literal["learned", "rotary"] = "learned",
        dropout: float = 0.0,
        conditioner: ConditionerFactory | None = None,
    ) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        self.context_length = context_length
        self.tokens = nn.Embedding(vocab_size, dim)
        self.start = nn.Parameter(torch.randn(dim))
        self.conditioner = (conditioner or VectorConditioner)(num_classes, dim) if num_classes else None
        self.positions = nn.Parameter(0.1 * torch.randn(context_length, dim)) if positions == "learned" else None
        self.dropout = nn.Dropout(dropout)
        self.head_dim = dim // num_heads
        self.blocks = nn.ModuleList(TransformerBlock(dim, num_heads, mlp_ratio, dropout) for _ in range(depth))
        self.logits = nn.Linear(dim, vocab_size, bias=False)
        nn.init.zeros_(self.logits.weight)

    def forward(self, tokens: Tensor, condition: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """Logits of the token that follows each position.

        Args:
            tokens: (N, L) int64, the first tokens of each sequence; with a non-empty cache, the next tokens.
            condition: (N, num_classes) vectors or (N, W) int64 words; zeros or None are the null condition.
            cache: of the earlier tokens of these sequences; it is extended.

        Returns:
            (N, 1 + L, vocab_size): logits of the first token and of the token after each of `tokens`; with a non-empty cache
            (N, L, vocab_size).

        Raises:
            ValueError: the sequence is longer than the context.
        """
        start = 0 if cache is None else cache.length
        x = self.tokens(tokens)
        if start == 0:
            x = torch.cat([self.first(tokens.shape[0], condition), x], dim=1)
        end = start + x.shape[1]
        if end > self.context_length + 1:
            raise ValueError(f"{end - 1} tokens exceed the context length {self.context_length}")
        if self.positions is not None:
            x = x + torch.cat([torch.zeros_like(self.positions[:1]), self.positions])[start:end]
        x = self.dropout(rms_norm(x))
        rotation = rotation_of(start, end, self.head_dim, x) if self.positions is None else None
        for layer, block in enumerate(self.blocks):
            x = block(x, rotation, layer, cache)
        if cache is not None:
            cache.length = end
        return self.logits(rms_norm(x))  # type: ignore[no-any-return]

    def hidden_matrices(self) -> list[nn.Parameter]:
        """The weight matrices of the blocks, for an optimiser of matrices such as Muon."""
        return [parameter for parameter in self.blocks.parameters() if parameter.ndim == 2]

    def first(self, num: int, condition: Tensor | None) -> Tensor:
        """Embedding of the position before the first token, which holds the condition: (num, 1, dim)."""
        x = self.start.expand(num, 1, -1)
        if self.conditioner is not None and condition is not None:
            x = x + self.conditioner(condition).vector[:, None]
        return x


@torch.no_grad()
def attention_maps(transformer: Transformer, tokens: Tensor) -> Tensor:
    """Attention of tokens (N, L) in every block and head: (depth, N, heads, 1 + L, 1 + L); the first position is the start."""
    maps: list[Tensor] = []
    handles = [
        block.get_submodule("attention").register_forward_pre_hook(lambda layer, args: maps.append(layer.weights(*args[:2])))
        for block in transformer.blocks
    ]
    try:
        transformer(tokens)
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack(maps)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(D)) v of q (N, heads, L, D), the last L of the M positions of k and v, each up to itself.

    Training on a CPU uses explicit matrix products: there a step with torch's kernels takes a sixth longer.
    """
    if q.device.type == "cpu" and q.requires_grad:
        return attention_weights(q, k) @ v
    is_causal = 1 < q.shape[2] == k.shape[2]
    mask = None if is_causal else causal_mask(q, k)
    if q.device.type == "cpu":
        return scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=is_causal)
    with sdpa_kernel(sdpa_backends(q)):
        return scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=is_causal)


def attention_weights(q: Tensor, k: Tensor) -> Tensor:
    """The attention of each query of q (N, heads, L, D), see `attend`: (N, heads, L, M), rows sum to 1."""
    mask = causal_mask(q, k)
    mask = q.new_zeros(()) if mask is None else mask
    scores = torch.baddbmm(mask, q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2), alpha=q.shape[-1] ** -0.5)
    return scores.softmax(dim=-1).unflatten(0, q.shape[:2])


def with_room(x: Tensor, room: int) -> Tensor:
    """x (N, heads, L, D) followed by unused positions: (N, heads, room, D)."""
    return torch.cat([x, x.new_empty(*x.shape[:2], room - x.shape[2], x.shape[3])], dim=2)


def causal_mask(q: Tensor, k: Tensor) -> Tensor | None:
    """(L, M): 0 where a query, one of the last L of M positions, may attend to a key, else -inf; None for a single query."""
    if q.shape[2] == 1:
        return None
    shape = q.shape[2], k.shape[2]
    return torch.full(shape, -torch.inf, dtype=q.dtype, device=q.device).triu(1 + shape[1] - shape[0])


def rotation_of(start: int, end: int, dim: int, like: Tensor) -> Rotation:
    """The angles position / base^(2 i / dim) of positions start, ..., end - 1, on the device of `like`."""
    positions, i = torch.arange(start, end, device=like.device), torch.arange(dim // 2, device=like.device)
    angles = positions[:, None] * ROTARY_BASE ** (-i / (dim // 2))  # (L, D / 2)
    cos, sin = angles.cos(), angles.sin()
    return Rotation(torch.cat([cos, cos], dim=1), torch.cat([-sin, sin], dim=1))


def rotated(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotate the pairs of elements i and i + D / 2 of x (..., L, D)."""
    cos, sin = (part.to(x.dtype) for part in rotation)
    a, b = x.chunk(2, dim=-1)
    return torch.addcmul(x * cos, torch.cat([b, a], dim=-1), sin)


def check_heads(dim: int, num_heads: int) -> None:
    """Raise UserError unless `dim` can be split into heads of an even number of channels."""
    if dim % (2 * num_heads):
        raise UserError(f"dim {dim} is not a multiple of 2 * num_heads = {2 * num_heads}: change dim or num_heads")
