"""The residual pair of R3GAN (Huang et al. 2024, arXiv:2501.05441, section 4), for any size that halves often enough.

No normalisation layer, no tanh: 1x1, grouped 3x3 and 1x1 convolutions with leaky ReLUs. The last one of a block is initialised
with zeros, the others are scaled by Fix-Up initialisation (Zhang et al. 2019, arXiv:1901.09321). Between two stages the map is
doubled (bilinear) or halved (mean of four pixels), and a 1x1 convolution changes the channels on the smaller map.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, leaky_relu, linear, pixel_shuffle, pixel_unshuffle

from genai.errors import UserError, check_at_least

SLOPE = 0.2
GAIN = math.sqrt(2 / (1 + SLOPE**2))  # He et al. 2015 for a leaky ReLU


def base_size(image_size: int, patch_size: int, num_stages: int) -> int:
    """Side of the smallest feature map: `image_size` in patches, halved between two stages.

    Raises:
        UserError: this is not a whole number.
    """
    side = image_size // patch_size
    base = side >> (num_stages - 1)
    if base < 1 or base << (num_stages - 1) != side or side * patch_size != image_size:
        raise UserError(
            f"{image_size} pixels in patches of {patch_size} cannot be halved {num_stages - 1} times: "
            "give `channels` fewer entries, or choose another size"
        )
    return base


def scaled(layer: nn.Module, gain: float) -> nn.Module:
    """`layer` with weights from N(0, gain^2 / fan in) and no bias."""
    weight: Tensor = layer.weight  # type: ignore[assignment]
    nn.init.normal_(weight, 0.0, gain / math.sqrt(weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def reinitialise(layer: nn.Linear | None, std: float | None) -> None:
    """Initialise the weights of `layer` from N(0, std^2), unless one of both is None."""
    if layer is not None and std is not None:
        nn.init.normal_(layer.weight, std=std)


class Pointwise(nn.Conv2d):
    """A 1x1 convolution, computed as the matrix product it is: a convolution is slow to differentiate twice.

    Args:
        channels_in, channels_out: channels of the input and the output.
        bias: add a learned constant to each channel.
    """

    def __init__(self, channels_in: int, channels_out: int, bias: bool = True) -> None:
        super().__init__(channels_in, channels_out, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels_in, H, W) -> (N, channels_out, H, W)."""
        return linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


class FixupBlock(nn.Module):
    """x + conv1x1(act(conv3x3(act(conv1x1(x))))), the 3x3 convolution in groups.

    Args:
        channels: channels of x.
        expansion: channels inside the block, as a multiple of `channels`.
        group_size: channels in each group of the 3x3 convolution.
        gain: of the initial weights of the first two convolutions; those of the last are zero.
    """

    def __init__(self, channels: int, expansion: int, group_size: int, gain: float) -> None:
        super().__init__()
        inside = channels * expansion
        groups = max(1, inside // group_size)
        if inside % groups:
            raise UserError(
                f"{inside} channels inside a block are not a multiple of group_size {group_size}: change one of them"
            )
        self.expand = scaled(Pointwise(channels, inside), gain)
        self.mix = scaled(nn.Conv2d(inside, inside, 3, padding=1, groups=groups), gain)
        self.project = scaled(Pointwise(inside, channels, bias=False), 0.0)

    def forward(self, x: Tensor) -> Tensor:
        y = leaky_relu(self.expand(x), SLOPE)
        y = leaky_relu(self.mix(y), SLOPE)
        return x + self.project(y)  # type: ignore[no-any-return]


class JointFeatures(nn.Module):
    """x + linear(act(linear(x))), the last layer initialised with zeros: mixes the features of all channels.

    Args:
        width: length of x.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.expand = scaled(nn.Linear(width, width), GAIN)
        self.project = scaled(nn.Linear(width, width, bias=False), 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width) -> (N, width)."""
        return x + self.project(leaky_relu(self.expand(x), SLOPE))  # type: ignore[no-any-return]


def stage(channels: int, num_blocks: int, expansion: int, group_size: int, num_all: int) -> nn.Sequential:
    """The blocks of one resolution; the whole network has `num_all` blocks."""
    gain = GAIN * num_all ** (-1 / 4)  # three layers a block: L^(-1 / (2m - 2))
    return nn.Sequential(*(FixupBlock(channels, expansion, group_size, gain) for _ in range(num_blocks)))


class ResidualGenerator(nn.Module):
    """latent (and embedded condition) -> mapping -> smallest map -> residual stages, each twice the side -> image.

    In the paper the smallest map is a learned basis whose channels the latent scales, followed by many blocks. A network with
    few blocks needs more freedom to separate modes: `mapping`.

    Args:
        image_shape: (C, H, W) of the generated images, H = W.
        num_classes: width of the condition vector, embedded and appended to the latent; 0 for none.
        latent_dim: length of the latent z.
        channels: channels of each stage, the coarsest first.
        num_blocks: residual blocks per stage.
        expansion: channels inside a block, as a multiple.
        group_size: channels in each group of the 3x3 convolutions.
        patch_size: side of the squares of pixels that the last layer outputs at once; 2 avoids maps of the full size.
        mapping: widths of hidden layers before the smallest map; with any, the map is a linear function of the last one
            instead of a scaled basis.
        embedding_dim: length of the embedded condition.
        embedding_std: standard deviation of the initial weights of the embedding; None for one that shrinks with the number of
            classes, which suits attributes, since their embeddings add up. Use 1 for one-hot vectors of tens of classes.
        channelwise: generate each channel by itself, with the same weights, from its part of the last layer of `mapping`; for
            channels that are separate images.

    Raises:
        UserError: `group_size` does not divide the channels, `image_shape` cannot be halved often enough, or the last width of
            `mapping` is not a multiple of the channels of `channelwise`.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int = 0,
        latent_dim: int = 64,
        channels: Sequence[int] = (256, 128, 64),
        num_blocks: int = 2,
        expansion: int = 2,
        group_size: int = 16,
        patch_size: int = 1,
        mapping: Sequence[int] = (),
        embedding_dim: int = 64,
        embedding_std: float | None = None,
        channelwise: bool = False,
    ) -> None:
        super().__init__()
        check_at_least("latent_dim", latent_dim, 1)
        self.latent_dim = latent_dim
        self.patch_size = patch_size
        self.num_parts = image_shape[0] if channelwise else 1
        base = base_size(image_shape[1], patch_size, len(channels))
        num_all = num_blocks * len(channels)
        width = embedding_dim if num_classes else 0
        self.embedding = nn.Linear(num_classes, width, bias=False) if num_classes else None
        reinitialise(self.embedding, embedding_std)
        self.mapping = nn.Sequential()
        widths = [latent_dim + width, *mapping]
        for wide, narrow in pairwise(widths):
            self.mapping.extend([scaled(nn.Linear(wide, narrow), GAIN), nn.LeakyReLU(SLOPE)])
        if widths[-1] % self.num_parts:
            raise UserError(
                f"{widths[-1]} numbers cannot be divided among {self.num_parts} channels: "
                "end `mapping` with a multiple of the channels, or leave channelwise out"
            )
        self.basis = nn.Parameter(torch.randn(channels[0], base, base)) if not mapping else None
        width = channels[0] * (base**2 if mapping else 1)
        self.first = scaled(nn.Linear(widths[-1] // self.num_parts, width, bias=False), 1.0)
        self.base = base
        self.stages = nn.ModuleList(stage(c, num_blocks, expansion, group_size, num_all) for c in channels)
        self.steps = nn.ModuleList(scaled(Pointwise(wide, narrow, bias=False), 1.0) for wide, narrow in pairwise(channels))
        pixels = image_shape[0] // self.num_parts * patch_size**2
        self.last = scaled(nn.Conv2d(channels[-1], pixels, 3, padding=1), 1.0)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """z (N, latent_dim), condition (N, num_classes) or None -> images (N, C, H, W), not limited to [-1, 1]."""
        return self.synthesise(self.to_w(z, condition))

    def to_w(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """z (N, latent_dim) and the condition -> the last layer of `mapping`, w (N, mapping[-1])."""
        if self.embedding is not None and condition is not None:
            z = torch.cat([z, self.embedding(condition)], dim=1)
        w: Tensor = self.mapping(z)
        return w

    def synthesise(self, w: Tensor) -> Tensor:
        """w (N, mapping[-1]) -> images (N, C, H, W), not limited to [-1, 1]."""
        x = self.first(w.unflatten(1, (self.num_parts, -1)).flatten(0, 1))
        x = x[:, :, None, None] * self.basis if self.basis is not None else x.unflatten(1, (-1, self.base, self.base))
        x = self.stages[0](x.contiguous(memory_format=torch.channels_last))
        for step, blocks in zip(self.steps, self.stages[1:], strict=True):  # type: ignore[arg-type]
            x = blocks(interpolate(step(x), scale_factor=2, mode="bilinear", align_corners=False))
        return pixel_shuffle(self.last(x), self.patch_size).unflatten(0, (-1, self.num_parts)).flatten(1, 2)


class ResidualDiscriminator(nn.Module):
    """image -> residual stages, each half the side -> one value per channel -> logit, with a projection of the condition.

    The condition y adds <embed(y), features(x)> to the logit (Miyato & Koyama 2018, arXiv:1802.05637, equation 3).

    Args:
        image_shape: (C, H, W) of the input images, H = W.
        num_classes: width of the condition vector; 0 for none.
        channels: channels of each stage, the finest first.
        num_blocks: residual blocks per stage.
        expansion: channels inside a block, as a multiple.
        group_size: channels in each group of the 3x3 convolutions.
        patch_size: side of the squares of pixels that the first layer takes as one position.
        embedding_std: as in the generator.
        channelwise: process each channel by itself, with the same weights; one hidden layer joins their features.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int = 0,
        channels: Sequence[int] = (64, 128, 256),
        num_blocks: int = 2,
        expansion: int = 2,
        group_size: int = 16,
        patch_size: int = 1,
        embedding_std: float | None = None,
        channelwise: bool = False,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.num_parts = image_shape[0] if channelwise else 1
        base = base_size(image_shape[1], patch_size, len(channels))
        num_all = num_blocks * len(channels)
        pixels = image_shape[0] // self.num_parts * patch_size**2
        self.first = scaled(nn.Conv2d(pixels, channels[0], 3, padding=1), 1.0)
        self.stages = nn.ModuleList(stage(c, num_blocks, expansion, group_size, num_all) for c in channels)
        self.steps = nn.ModuleList(scaled(Pointwise(narrow, wide, bias=False), 1.0) for narrow, wide in pairwise(channels))
        self.basis = nn.Parameter(torch.randn(channels[-1], base, base) / base)
        width = channels[-1] * self.num_parts
        self.joint = JointFeatures(width) if channelwise else nn.Identity()
        self.logit = scaled(nn.Linear(width, 1), 1.0)
        self.embedding = scaled(nn.Linear(num_classes, width, bias=False), 1.0) if num_classes else None
        reinitialise(self.embedding, embedding_std)  # type: ignore[arg-type]
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """x (N, C, H, W) in [-1, 1], condition (N, num_classes) or None -> logits (N,); positive means real."""
        x = x.unflatten(1, (self.num_parts, -1)).flatten(0, 1)
        patches = pixel_unshuffle(x, self.patch_size).contiguous(memory_format=torch.channels_last)
        x = self.stages[0](self.first(patches))
        for step, blocks in zip(self.steps, self.stages[1:], strict=True):  # type: ignore[arg-type]
            x = blocks(step(avg_pool2d(x, 2)))
        features = (x * self.basis).sum(dim=(2, 3))  # a grouped convolution, but fast to differentiate twice
        features = self.joint(features.unflatten(0, (-1, self.num_parts)).flatten(1))  # (N, parts * channels)
        logits: Tensor = self.logit(features).squeeze(1)
        if self.embedding is not None and condition is not None:
            logits = logits + (self.embedding(condition) * features).sum(dim=1) / math.sqrt(features.shape[1])
        return logits
