"""Conditioners: networks that embed a class, attributes or a caption. And the embedding of the noise level.

A conditioner maps a condition to a `Context`. A row of zeros is the null condition, used by condition dropout and for
unconditional samples. So classes are one-hot, attributes are -1 or 1, and the word 0 is padding.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from genai.errors import UserError
from genai.networks.attention import Attention


class Context(NamedTuple):
    """An embedded condition.

    vector: (N, D), added to the embedding of the noise level.
    tokens: (N, L, D) for cross-attention, or None.
    visible: (N, L) bool, False for the padding of `tokens`.
    """

    vector: Tensor
    tokens: Tensor | None = None
    visible: Tensor | None = None


class Conditioner(nn.Module):
    """A network that embeds a condition: forward(condition) -> Context.

    `has_tokens` says whether its contexts have tokens. Networks have cross-attention only for those.
    """

    has_tokens: bool = False


ConditionerFactory = Callable[[int, int], Conditioner]  # (width of the condition, D) -> conditioner


def as_vector(condition: Tensor) -> Tensor:
    """The condition (N, K), which is a vector of floats.

    Raises:
        UserError: it is a sequence of words (integers).
    """
    if not condition.is_floating_point():
        raise UserError(
            "the labels are words, and this network takes classes or attributes: choose those with --data.init_args.labels, "
            "or use a text conditioner as in configs/avatars/diffusion.yaml"
        )
    return condition


class VectorConditioner(Conditioner):
    """Embeds a class (one-hot) or attributes (-1 or 1) linearly; the embedding of zeros is zero.

    Args:
        num_classes: length of the condition vector.
        dim: length D of the embedding.
    """

    def __init__(self, num_classes: int, dim: int) -> None:
        super().__init__()
        self.embedding = nn.Linear(num_classes, dim, bias=False)
        nn.init.normal_(self.embedding.weight)  # a one-hot class has an embedding of unit variance
        self.scale = 1 / math.sqrt(num_classes)

    def forward(self, condition: Tensor) -> Context:
        """condition (N, num_classes) -> vector (N, dim)."""
        norm = as_vector(condition).square().sum(dim=1, keepdim=True).clamp(min=1.0).sqrt()
        return Context(self.embedding(condition / norm))


class TextConditioner(Conditioner):
    """Embeds words with a small transformer, trained together with the denoiser.

    A learned token stands before the words, also for the null condition; its output is the vector of the context.

    Args:
        num_classes: words of the vocabulary, including the padding.
        dim: length D of the embeddings.
        depth: number of transformer layers.
        num_heads: heads of each attention.
        max_length: largest number of words in a prompt.
    """

    has_tokens = True

    def __init__(self, num_classes: int, dim: int, depth: int = 2, num_heads: int = 4, max_length: int = 64) -> None:
        super().__init__()
        self.words = nn.Embedding(num_classes, dim)
        nn.init.normal_(self.words.weight, 0.0, 0.5)
        self.positions = nn.Parameter(0.1 * torch.randn(max_length + 1, dim))
        self.start = nn.Parameter(torch.randn(dim))
        self.layers = nn.ModuleList(TextLayer(dim, num_heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(self, condition: Tensor) -> Context:
        """condition (N, L) int64 words, 0 for padding -> vector (N, dim), tokens (N, 1 + L, dim)."""
        x = torch.cat([self.start.expand(condition.shape[0], 1, -1), self.words(condition)], dim=1)
        x = x + self.positions[: x.shape[1]]
        visible = torch.cat([torch.ones_like(condition[:, :1], dtype=torch.bool), condition != 0], dim=1)
        for layer in self.layers:
            x = layer(x, visible)
        x = self.norm(x)
        return Context(x[:, 0], x, visible)


class TextLayer(nn.Module):
    """A transformer layer with pre-normalisation: x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attention = Attention(dim, num_heads)
        self.mlp = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        """x (N, L, D), visible (N, L) bool -> (N, L, D)."""
        x = x + self.attention(self.norm(x), visible=visible)
        return x + self.mlp(x)  # type: ignore[no-any-return]


class NoiseEmbedding(nn.Module):
    """c_noise (N,) -> (N, dim): sines and cosines of geometric frequencies (Vaswani et al. 2017), then two linear layers."""

    frequencies: Tensor

    def __init__(self, dim: int, num_frequencies: int = 32, highest: float = 16.0) -> None:
        super().__init__()
        powers = torch.linspace(-2, math.log2(highest), num_frequencies)
        self.register_buffer("frequencies", 2.0**powers, persistent=False)
        self.layers = nn.Sequential(nn.Linear(2 * num_frequencies, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, c_noise: Tensor) -> Tensor:
        """Noise levels (N,) of about unit size -> (N, dim)."""
        angles = c_noise.float()[:, None] * self.frequencies
        return self.layers(torch.cat([angles.cos(), angles.sin()], dim=1))  # type: ignore[no-any-return]
