"""Gated masked convolutions over the tokens of an image: the logits of each token from those before it in raster order.

They cost less than attention and know from the start which tokens are neighbours, so they learn from fewer images.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, one_hot, pad, silu

from genai.errors import UserError, check_at_least
from genai.networks.conditioning import VectorConditioner
from genai.networks.normalisation import rms_norm
from genai.networks.transformer import Cache


class MaskedConvolution(nn.Module):
    """A convolution that sees the rows above and the tokens to the left (van den Oord et al. 2016, arXiv:1601.06759).

    Args:
        in_channels: of the input; it equals `out_channels` for a convolution of each channel by itself.
        out_channels: of the output.
        rows, columns: the window reaches `rows` up, and `columns` to the left and to the right.
        sees_itself: whether a position sees its own input (mask B), or only earlier ones (mask A).
        is_depthwise: convolve each channel by itself.
    """

    mask: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, rows: int, columns: int, sees_itself: bool, is_depthwise: bool = False
    ) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns
        self.groups = in_channels if is_depthwise else 1
        mask = torch.ones(rows + 1, 2 * columns + 1)
        mask[-1, columns + sees_itself :] = 0
        self.register_buffer("mask", mask, persistent=False)
        fan_in = float(mask.sum()) * in_channels / self.groups
        weight = torch.randn(out_channels, in_channels // self.groups, *mask.shape) / math.sqrt(fan_in)
        self.weight = nn.Parameter(weight * mask)

    def forward(self, x: Tensor) -> Tensor:
        """All positions: x (N, H, W, in_channels) -> (N, H, W, out_channels)."""
        padded = pad(x.permute(0, 3, 1, 2), (self.columns, self.columns, self.rows, 0))
        return conv2d(padded, (self.weight * self.mask).to(x.dtype), groups=self.groups).permute(0, 2, 3, 1)

    def reach(self, width: int) -> int:
        """How many positions, up to its own, a position needs in an image of this width."""
        return self.rows * width + self.columns + 1

    def at(self, x: Tensor, position: int, width: int) -> Tensor:
        """One position, from the inputs of those up to it: x (N, at most `reach`, in_channels), in raster order.

        Returns:
            (N, out_channels).
        """
        x = pad(x, (0, 0, self.reach(width) - x.shape[1], self.columns))  # zeros above the image and to the right
        columns = torch.arange(2 * self.columns + 1, device=x.device)
        window = x[:, torch.arange(self.rows + 1, device=x.device)[:, None] * width + columns]  # (N, rows + 1, columns, in)
        column = position % width + columns - self.columns
        weight = (self.weight * self.mask * ((column >= 0) & (column < width))).to(x.dtype)
        if self.groups > 1:
            return (window * weight[:, 0].permute(1, 2, 0)).sum(dim=(1, 2))
        return torch.einsum("nrci,oirc->no", window, weight)


class GatedBlock(nn.Module):
    """Pre-norm residual: a depthwise masked convolution, then a gated MLP (Shazeer 2020, arXiv:2002.05202, SwiGLU)."""

    def __init__(self, dim: int, mlp_ratio: float, rows: int, columns: int, dropout: float) -> None:
        super().__init__()
        self.convolution = MaskedConvolution(dim, dim, rows, columns, sees_itself=True, is_depthwise=True)
        self.expand = nn.Linear(dim, 2 * int(dim * mlp_ratio), bias=False)
        self.project = nn.Linear(int(dim * mlp_ratio), dim, bias=False)
        nn.init.zeros_(self.project.weight)
        self.dropout = nn.Dropout(dropout)

    def gated(self, x: Tensor) -> Tensor:
        """What is added to the residual stream, from the output of the convolution (..., dim)."""
        a, b = self.expand(rms_norm(x)).chunk(2, dim=-1)
        return self.dropout(self.project(a * silu(b)))  # type: ignore[no-any-return]


class PixelCNN(nn.Module):
    """Tokens of an image and a condition -> logits of the next token at every position.

    The first convolution is from one-hot tokens. As in Gated PixelCNN (van den Oord et al. 2016, arXiv:1606.05328) the
    blocks are gated; their convolutions are depthwise, and tokens far to the upper right of a position stay out of sight.

    Args:
        vocab_size: number of tokens.
        context_length: number of tokens of an image.
        num_classes: width of the condition; 0 for none.
        width: tokens in a row of the image; it divides context_length.
        dim: channels.
        depth: number of blocks.
        mlp_ratio: hidden units of a block, as a multiple of dim.
        rows, columns: reach of the convolution of a block; the first one reaches twice as far.
        dropout: dropout probability of each residual branch.

    Raises:
        UserError: the width does not divide the number of tokens.
    """

    def __init__(
        self,
        vocab_size: int,
        context_length: int,
        num_classes: int = 0,
        width: int = 14,
        dim: int = 96,
        depth: int = 6,
        mlp_ratio: float = 2.0,
        rows: int = 2,
        columns: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_at_least("width", width, 1)
        if context_length % width:
            raise UserError(f"width {width} does not divide the {context_length} tokens of an image: use the tokens in a row")
        self.vocab_size = vocab_size
        self.width = width
        self.height = context_length // width
        self.first = MaskedConvolution(vocab_size, dim, 2 * rows, 2 * columns, sees_itself=False)
        self.positions = nn.Parameter(0.1 * torch.randn(context_length, dim))
        self.conditioner = VectorConditioner(num_classes, dim) if num_classes else None
        self.blocks = nn.ModuleList(GatedBlock(dim, mlp_ratio, rows, columns, dropout) for _ in range(depth))
        self.logits = nn.Linear(dim, vocab_size, bias=False)
        nn.init.zeros_(self.logits.weight)

    def forward(self, tokens: Tensor, condition: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """Logits of the token that follows each position.

        Args:
            tokens: (N, L) int64, L < context_length, the first tokens of each image; with a non-empty cache, one token.
            condition: (N, num_classes); zeros or None are the null condition.
            cache: of the earlier tokens of these images; it is extended. It begins without tokens.

        Returns:
            (N, 1 + L, vocab_size): logits of the first token and of the token after each of `tokens`; with a non-empty cache
            (N, 1, vocab_size).
        """
        if cache is not None:
            return self.next(tokens, condition, cache)[:, None]
        length = tokens.shape[1]
        grid = pad(tokens, (0, self.height * self.width - length)).unflatten(1, (self.height, self.width))
        x = self.first(one_hot(grid, self.vocab_size).to(self.positions))  # what is after a position is masked
        x = x + self.embedded(condition)[:, None, None] + self.positions.unflatten(0, (self.height, self.width))
        block: Any
        for block in self.blocks:
            x = x + block.gated(block.convolution(rms_norm(x)))
        x = x.flatten(1, 2)[:, : length + 1]
        return self.logits(rms_norm(x))  # type: ignore[no-any-return]

    def next(self, tokens: Tensor, condition: Tensor | None, cache: Cache) -> Tensor:
        """Logits (N, vocab_size) of the token after the cached ones and `tokens`: (N, 0) at the start, then (N, 1)."""
        position = cache.length
        new = one_hot(tokens, self.vocab_size).to(self.positions)
        known = pad(appended(cache, 0, new, self.first.reach(self.width) - 1), (0, 0, 0, 1))  # the position itself is masked
        x = self.first.at(known, position, self.width) + self.embedded(condition) + self.positions[position]  # (N, dim)
        block: Any
        for layer, block in enumerate(self.blocks, start=1):
            new = rms_norm(x)[:, None]
            known = appended(cache, layer, new, block.convolution.reach(self.width))
            x = x + block.gated(block.convolution.at(known, position, self.width))
        cache.length = position + 1
        return self.logits(rms_norm(x))  # type: ignore[no-any-return]

    def embedded(self, condition: Tensor | None) -> Tensor:
        """The embedding of the condition (N, dim), or zeros (1, dim)."""
        if self.conditioner is None or condition is None:
            return torch.zeros_like(self.positions[:1])
        return self.conditioner(condition).vector  # type: ignore[no-any-return]

    def hidden_matrices(self) -> list[nn.Parameter]:
        """The weight matrices of the blocks, for an optimiser of matrices such as Muon."""
        return [parameter for parameter in self.blocks.parameters() if parameter.ndim == 2]


def appended(cache: Cache, layer: int, new: Tensor, most: int) -> Tensor:
    """The inputs of a layer at the last `most` positions, after `new` (N, positions, channels) has been added to the cache."""
    known = torch.cat([cache.layers[layer][0], new], dim=1)[:, -most:] if layer < len(cache.layers) else new
    cache.layers[layer:] = [(known, known), *cache.layers[layer + 1 :]]
    return known
