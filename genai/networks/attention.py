"""Self-attention over a sequence, optionally with the tokens of a context as further keys and values."""

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import rms_norm, scaled_dot_product_attention


class Attention(nn.Module):
    """Multi-head attention with normalised queries and keys (Henry et al. 2020, arXiv:2010.04245), through SDPA.

    Args:
        dim: length of the tokens; the output is zero at the start of training, for use in a residual branch.
        num_heads: number of heads, of dim / num_heads channels each.
        context_dim: length of the context's tokens, which are further keys and values; 0 for no context.
    """

    def __init__(self, dim: int, num_heads: int, context_dim: int = 0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.context = nn.Linear(context_dim, 2 * dim) if context_dim else None
        self.query_scale = nn.Parameter(torch.ones(dim // num_heads))
        self.key_scale = nn.Parameter(torch.ones(dim // num_heads))
        self.project = nn.Linear(dim, dim)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, x: Tensor, context: Tensor | None = None, visible: Tensor | None = None) -> Tensor:
        """Attention of every token of x to x and to the context.

        Args:
            x: tokens (N, L, dim).
            context: tokens (N, M, context_dim); None for none.
            visible: bool, False for padding: (N, M) of the context; (N, L) of x if there is no context.

        Returns:
            (N, L, dim).
        """
        q, k, v, mask = self.projected(x, context, visible)
        with sdpa_kernel(sdpa_backends(q)):
            y = scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.project(y.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def weights(self, x: Tensor, context: Tensor | None = None, visible: Tensor | None = None) -> Tensor:
        """The attention of each token of x to those of x and then of the context: (N, heads, L, L + M), rows sum to 1."""
        q, k, _, mask = self.projected(x, context, visible)
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        return (scores if mask is None else scores.masked_fill(~mask, -torch.inf)).softmax(dim=-1)

    def projected(
        self, x: Tensor, context: Tensor | None, visible: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Queries, keys and values (N, heads, L or L + M, dim / heads), and the mask of the keys."""
        q, k, v = (self.heads(part) for part in self.qkv(x).chunk(3, dim=-1))
        if self.context is not None and context is not None:
            more_k, more_v = (self.heads(part) for part in self.context(context).chunk(2, dim=-1))
            k, v = torch.cat([k, more_k], dim=2), torch.cat([v, more_v], dim=2)
            if visible is not None:
                visible = torch.cat([visible.new_ones(x.shape[:2]), visible], dim=1)
        mask = None if visible is None else visible[:, None, None]
        return rms_normalise(q, self.query_scale), rms_normalise(k, self.key_scale), v, mask

    def heads(self, x: Tensor) -> Tensor:
        """(N, L, dim) -> (N, heads, L, dim / heads)."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


def rms_normalise(x: Tensor, scale: Tensor) -> Tensor:
    """x / rms(x) * scale over the last dimension, in the dtype of x."""
    return rms_norm(x, scale.shape, scale.to(x.dtype))


def sdpa_backends(q: Tensor) -> list[SDPBackend]:
    """SDPA backends for queries (N, heads, L, D): the backward pass of torch's fused kernel is slow on CPUs."""
    if q.device.type == "cpu" and q.requires_grad:
        return [SDPBackend.MATH]
    return [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
