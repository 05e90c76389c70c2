"""A small diffusion transformer: DiT with adaLN-Zero (Peebles & Xie 2023, arXiv:2212.09748, section 3.2)."""

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle, silu

from genai.networks.attention import Attention
from genai.networks.conditioning import ConditionerFactory, Context, NoiseEmbedding, VectorConditioner
from genai.networks.unet import check_sides


class DiTBlock(nn.Module):
    """Attention and an MLP, each scaled, shifted and gated by the embedding; the gates are zero at the start of training."""

    def __init__(self, dim: int, num_heads: int, embedding_dim: int, mlp_ratio: float, context_dim: int) -> None:
        super().__init__()
        inner = int(dim * mlp_ratio)
        self.norm1 = nn.LayerNorm(dim, elementwise_affine=False)
        self.attention = Attention(dim, num_heads, context_dim)
        nn.init.xavier_uniform_(self.attention.project.weight)  # not zero, because the gate is
        self.norm2 = nn.LayerNorm(dim, elementwise_affine=False)
        self.mlp = nn.Sequential(nn.Linear(dim, inner), nn.GELU(approximate="tanh"), nn.Linear(inner, dim))
        self.modulation = zero_linear(embedding_dim, 6 * dim)

    def forward(self, x: Tensor, embedding: Tensor, context: Context) -> Tensor:
        """x (N, L, dim), embedding (N, embedding_dim) -> (N, L, dim)."""
        scale1, shift1, gate1, scale2, shift2, gate2 = self.modulation(embedding)[:, None].chunk(6, dim=-1)
        x = x + gate1 * self.attention(self.norm1(x) * (1 + scale1) + shift1, context.tokens, context.visible)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)  # type: ignore[no-any-return]


class DiT(nn.Module):
    """The network F of `denoise`: noisy image, noise level and conditions -> image.

    Args:
        image_shape: (C, H, W) of the images, H = W.
        num_classes: width of the condition (classes, attributes, or words of a vocabulary); 0 for none.
        patch_size: side in pixels of the patches, which are the tokens.
        dim: length of the tokens.
        depth: number of blocks.
        num_heads: heads of each attention.
        mlp_ratio: hidden units of an MLP, as a multiple of dim.
        embedding_dim: length of the embedding of noise level and condition.
        conditioner: factory of the network that embeds the condition; VectorConditioner by default.
        conditioning_channels: channels of the conditioning image, concatenated to the noisy one; 0 for none.

    Raises:
        UserError: the image cannot be divided into patches.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int = 0,
        patch_size: int = 2,
        dim: int = 192,
        depth: int = 6,
        num_heads: int = 4,
        mlp_ratio: float = 4.0,
        embedding_dim: int = 192,
        conditioner: ConditionerFactory | None = None,
        conditioning_channels: int = 0,
    ) -> None:
        super().__init__()
        check_sides(image_shape[1], patch_size, 1)
        self.patch_size = patch_size
        self.conditioning_channels = conditioning_channels
        self.side = image_shape[1] // patch_size
        self.noise = NoiseEmbedding(embedding_dim)
        self.conditioner = (conditioner or VectorConditioner)(num_classes, embedding_dim) if num_classes else None
        self.first = nn.Linear((image_shape[0] + conditioning_channels) * patch_size**2, dim)
        self.positions = nn.Parameter(0.02 * torch.randn(self.side**2, dim))
        context_dim = embedding_dim if self.conditioner is not None and self.conditioner.has_tokens else 0
        self.blocks = nn.ModuleList(DiTBlock(dim, num_heads, embedding_dim, mlp_ratio, context_dim) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.modulation = zero_linear(embedding_dim, 2 * dim)
        self.last = zero_linear(dim, image_shape[0] * patch_size**2)

    def forward(
        self, x: Tensor, c_noise: Tensor, condition: Tensor | None = None, conditioning_image: Tensor | None = None
    ) -> Tensor:
        """x (N, C, H, W), c_noise (N,), condition, conditioning_image -> (N, C, H, W), see `UNet.forward`."""
        embedding = self.noise(c_noise)
        context = Context(embedding)
        if self.conditioner is not None and condition is not None:
            context = self.conditioner(condition)
            embedding = embedding + context.vector
        embedding = silu(embedding)
        x = x if conditioning_image is None else torch.cat([x, conditioning_image], dim=1)
        tokens = self.first(pixel_unshuffle(x, self.patch_size).flatten(2).transpose(1, 2)) + self.positions
        for block in self.blocks:
            tokens = block(tokens, embedding, context)
        scale, shift = self.modulation(embedding)[:, None].chunk(2, dim=-1)
        patches = self.last(self.norm(tokens) * (1 + scale) + shift)  # (N, L, C * patch_size^2)
        return pixel_shuffle(patches.transpose(1, 2).unflatten(2, (self.side, self.side)), self.patch_size)


def zero_linear(width_in: int, width_out: int) -> nn.Linear:
    """A linear layer whose output is zero at the start of training."""
    layer = nn.Linear(width_in, width_out)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
