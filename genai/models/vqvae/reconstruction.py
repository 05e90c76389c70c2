"""Reconstruction losses between the output of a decoder and an image. To add one, subclass `Reconstruction`."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


class Reconstruction(ABC):
    """A loss between output and image, and the image that an output stands for."""

    @abstractmethod
    def __call__(self, output: Tensor, x: Tensor) -> Tensor:
        """output and x (N, C, H, W) -> loss (N,), mean over pixels and channels."""

    @abstractmethod
    def image(self, output: Tensor) -> Tensor:
        """output (N, C, H, W) -> images in [-1, 1]."""


@dataclass(frozen=True)
class Pixelwise(Reconstruction):
    """squared * (output - x)^2 + absolute * |output - x|; the output is the image."""

    squared: float = 1.0
    absolute: float = 0.0

    def __call__(self, output: Tensor, x: Tensor) -> Tensor:
        error = output - x
        return (self.squared * error.square() + self.absolute * error.abs()).flatten(1).mean(dim=1)

    def image(self, output: Tensor) -> Tensor:
        return output.clamp(-1, 1)


@dataclass(frozen=True)
class BinaryCrossEntropy(Reconstruction):
    """Cross-entropy in nats between grey values and the sigmoid of the output, which is a logit."""

    def __call__(self, output: Tensor, x: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(output, (x + 1) / 2, reduction="none").flatten(1).mean(dim=1)

    def image(self, output: Tensor) -> Tensor:
        return (output / 2).tanh()  # 2 sigmoid(output) - 1
