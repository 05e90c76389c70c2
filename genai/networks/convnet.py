"""A small residual convolutional classifier; its penultimate layer gives the features of an image."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ConvNet(nn.Module):
    """Residual convolutional network for images of 8 to 64 pixels.

    Each entry of `channels` is a stage: a convolution that halves the resolution (the first has `stem_stride`) and a residual
    convolution. The feature vector is the mean of the last stage over positions, so `feature_dim == channels[-1]`. A linear
    layer maps it to logits.

    Args:
        image_shape: (channels, height, width) of the images.
        num_classes: number of logits: classes or binary attributes.
        channels: width of each stage, from fine to coarse.
        stem_stride: stride of the first convolution: 1 for tiny images; 2 needs a quarter of the compute.
        dropout: dropout probability of the features before the linear layer.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        channels: Sequence[int] = (32, 64, 128),
        stem_stride: int = 2,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.feature_dim = channels[-1]
        widths = [image_shape[0], *channels]
        strides = [stem_stride, *[2] * (len(channels) - 1)]
        self.stages = nn.Sequential(
            *(ConvNetStage(*arguments) for arguments in zip(widths[:-1], widths[1:], strides, strict=True))
        )
        self.dropout = nn.Dropout(dropout)
        self.logits = nn.Linear(self.feature_dim, num_classes)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def features(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] -> non-negative features (N, feature_dim)."""
        h: Tensor = self.stages(x.contiguous(memory_format=torch.channels_last))  # (N, feature_dim, h, w)
        return h.mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] -> logits (N, num_classes)."""
        logits: Tensor = self.logits(self.dropout(self.features(x)))
        return logits


class ConvNetStage(nn.Module):
    """(N, C_in, H, W) -> (N, C_out, H / stride, W / stride), rounded up."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.down = conv_norm_relu(in_channels, out_channels, stride)
        self.residual = conv_norm_relu(out_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.down(x)
        return h + self.residual(h)


def conv_norm_relu(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
