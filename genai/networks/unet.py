"""A denoising UNet on patches (Ho et al. 2020, arXiv:2006.11239; Dhariwal & Nichol 2021, arXiv:2105.05233, appendix A).

Skip connections are added, not concatenated, and the input is divided into patches: both keep feature maps narrow, so that the
network is fast on CPUs and small GPUs.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pixel_shuffle, pixel_unshuffle, silu

from genai.errors import UserError
from genai.networks.attention import Attention
from genai.networks.conditioning import ConditionerFactory, Context, NoiseEmbedding, VectorConditioner


class UNetBlock(nn.Module):
    """x + conv(silu(modulate(norm(conv(silu(norm(x))))))); the embedding scales and shifts the second normalisation.

    Args:
        channels: channels of x.
        embedding_dim: length of the embedding.
        dropout: dropout rate before the second convolution.
    """

    def __init__(self, channels: int, embedding_dim: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = norm(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulation = nn.Linear(embedding_dim, 2 * channels)
        self.norm2 = norm(channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zeroed(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """x (N, channels, H, W), embedding (N, embedding_dim) -> (N, channels, H, W)."""
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.conv1(silu(self.norm1(x)))
        h = self.norm2(h) * (1 + scale) + shift
        return x + self.conv2(self.dropout(silu(h)))  # type: ignore[no-any-return]


class UNetAttention(nn.Module):
    """x + attention over the positions of x and over the tokens of the context.

    Args:
        channels: channels of x.
        head_dim: channels of a head.
        context_dim: length of the tokens of the context; 0 for no tokens.
    """

    def __init__(self, channels: int, head_dim: int, context_dim: int) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.attention = Attention(channels, max(1, channels // head_dim), context_dim)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """x (N, channels, H, W) -> (N, channels, H, W)."""
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # (N, H * W, channels)
        y = self.attention(tokens, context.tokens, context.visible)
        return x + y.transpose(1, 2).unflatten(2, x.shape[2:])  # type: ignore[no-any-return]


class UNetStage(nn.Module):
    """The blocks of one resolution, each followed by attention if `head_dim` is not None."""

    def __init__(
        self, channels: int, num_blocks: int, embedding_dim: int, dropout: float, head_dim: int | None, context_dim: int
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(UNetBlock(channels, embedding_dim, dropout) for _ in range(num_blocks))
        self.attentions = nn.ModuleList()
        if head_dim is not None:
            self.attentions.extend(UNetAttention(channels, head_dim, context_dim) for _ in range(num_blocks))

    def forward(self, x: Tensor, embedding: Tensor, context: Context) -> Tensor:
        """x (N, channels, H, W) -> the same."""
        for i, block in enumerate(self.blocks):
            x = block(x, embedding)
            if self.attentions:
                x = self.attentions[i](x, context)
        return x


class UNet(nn.Module):
    """The network F of `denoise`: noisy image, noise level and conditions -> image.

    Args:
        image_shape: (C, H, W) of the images, H = W.
        num_classes: width of the condition (classes, attributes, or words of a vocabulary); 0 for none.
        channels: channels of each resolution, the finest first.
        num_blocks: residual blocks of each resolution, in the encoder and in the decoder.
        patch_size: side in pixels of the patches, which are the positions of the finest feature map.
        attention: number of resolutions with attention, from the coarsest.
        head_dim: channels of an attention head.
        embedding_dim: length of the embedding of noise level and condition.
        dropout: dropout rate in the blocks.
        conditioner: factory of the network that embeds the condition; VectorConditioner by default.
        conditioning_channels: channels of the conditioning image, concatenated to the noisy one; 0 for none.

    Raises:
        UserError: the image cannot be divided into patches and halved between the resolutions.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int = 0,
        channels: Sequence[int] = (64, 128, 128),
        num_blocks: int = 2,
        patch_size: int = 1,
        attention: int = 1,
        head_dim: int = 32,
        embedding_dim: int = 256,
        dropout: float = 0.0,
        conditioner: ConditionerFactory | None = None,
        conditioning_channels: int = 0,
    ) -> None:
        super().__init__()
        check_sides(image_shape[1], patch_size, len(channels))
        self.patch_size = patch_size
        self.conditioning_channels = conditioning_channels
        self.noise = NoiseEmbedding(embedding_dim)
        self.conditioner = (conditioner or VectorConditioner)(num_classes, embedding_dim) if num_classes else None
        self.first = nn.Conv2d((image_shape[0] + conditioning_channels) * patch_size**2, channels[0], 3, padding=1)
        context_dim = embedding_dim if self.conditioner is not None and self.conditioner.has_tokens else 0
        heads = [head_dim if i >= len(channels) - attention else None for i in range(len(channels))]
        self.down, self.up = (
            nn.ModuleList(
                UNetStage(c, num_blocks, embedding_dim, dropout, head, context_dim)
                for c, head in zip(channels, heads, strict=True)
            )
            for _ in range(2)
        )
        self.narrow = nn.ModuleList(nn.Conv2d(fine, coarse, 1) for fine, coarse in pairwise(channels))
        self.widen = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in pairwise(channels))
        self.norm = norm(channels[0])
        self.last = zeroed(nn.Conv2d(channels[0], image_shape[0] * patch_size**2, 3, padding=1))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(
        self, x: Tensor, c_noise: Tensor, condition: Tensor | None = None, conditioning_image: Tensor | None = None
    ) -> Tensor:
        """F(x; c_noise, condition, conditioning_image).

        Args:
            x: noisy images (N, C, H, W), scaled by c_in.
            c_noise: their noise levels (N,).
            condition: (N, num_classes) vectors or (N, L) int64 words; a row of zeros is the null condition. None for a network
                without classes.
            conditioning_image: (N, conditioning_channels, H, W); None for a network without conditioning channels.

        Returns:
            (N, C, H, W).
        """
        embedding = self.noise(c_noise)
        context = Context(embedding)
        if self.conditioner is not None and condition is not None:
            context = self.conditioner(condition)
            embedding = embedding + context.vector
        embedding = silu(embedding)
        x = x if conditioning_image is None else torch.cat([x, conditioning_image], dim=1)
        x = pixel_unshuffle(x, self.patch_size).contiguous(memory_format=torch.channels_last)
        x = self.first(x)
        skips = []
        for i, stage in enumerate(self.down):
            x = stage(x if i == 0 else self.narrow[i - 1](avg_pool2d(x, 2)), embedding, context)
            skips.append(x)
        for i, stage in reversed(list(enumerate(self.up))):
            x = stage(x, embedding, context)
            if i:
                x = skips[i - 1] + interpolate(self.widen[i - 1](x), scale_factor=2, mode="nearest")
        return pixel_shuffle(self.last(silu(self.norm(x))), self.patch_size)


def norm(channels: int) -> nn.GroupNorm:
    """Group normalisation in groups of 16 channels or more."""
    return nn.GroupNorm(math.gcd(max(1, channels // 16), channels), channels, eps=1e-5)


def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """`layer` with weights of zero, so that its residual branch is zero at the start of training."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def check_sides(size: int, patch_size: int, num_stages: int) -> None:
    """Raise UserError unless the side `size`, in patches, can be halved between the stages."""
    factor = patch_size * 2 ** (num_stages - 1)
    if size % factor:
        raise UserError(
            f"{size} pixels are not a multiple of {factor} (patches of {patch_size}, halved {num_stages - 1} times): "
            "give `channels` fewer entries, or use another patch_size"
        )
