"""How far a decoder's output is from an image. A new distance is one small class."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


class Reconstruction(ABC):
    """How far a decoder's output is from an image, and which image it stands for."""

    @abstractmethod
    def __call__(self, output: Tensor, x: Tensor) -> Tensor:
        """The output for x, both (N, C, H, W) -> distance (N,), mean over the pixels."""

    @abstractmethod
    def image(self, output: Tensor) -> Tensor:
        """output (N, C, H, W) -> images in [-1, 1]."""


@dataclass(frozen=True)
class Pixelwise(Reconstruction):
    """squared * (output - x)^2 + absolute * |output - x|."""

    squared: float = 1.0
    absolute: float = 0.0

    def __call__(self, output: Tensor, x: Tensor) -> Tensor:
        error = output - x
        return (self.squared * error.square() + self.absolute * error.abs()).flatten(1).mean(dim=1)

    def image(self, output: Tensor) -> Tensor:
        return output.clamp(-1, 1)


@dataclass(frozen=True)
class Bernoulli(Reconstruction):
    """Cross entropy in nats of grey values as probabilities of white; the output is their logit. Reaches black and white."""

    def __call__(self, output: Tensor, x: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(output, (x + 1) / 2, reduction="none").flatten(1).mean(dim=1)

    def image(self, output: Tensor) -> Tensor:
        return (output / 2).tanh()  # 2 sigmoid(output) - 1
