"""Layout of a GAN's latent vector, the condition that both networks receive, and what the generator returns in training."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn

from genai.models.conditions import condition_vector


class LatentLayout(ABC):
    """How noise becomes a latent vector, and a latent vector the inputs of the networks.

    z_dim: length of the generator's own latent z.
    noise_dim: standard normal numbers per sample; the first `z_dim` of them are z.
    latent_dim: length of the latent vector, which `GAN.decode` takes; its first `z_dim` numbers are z.
    """

    z_dim: int
    noise_dim: int
    latent_dim: int

    @abstractmethod
    def from_noise(self, noise: Tensor) -> Tensor:
        """Standard normal numbers (N, noise_dim) -> latents (N, latent_dim)."""

    @abstractmethod
    def network_inputs(self, latents: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Latents (N, latent_dim), labels (N,) classes or (N, K) attributes -> z (N, z_dim) and the condition (N, width)."""

    @abstractmethod
    def condition(self, images: Tensor, labels: Tensor | None) -> Tensor | None:
        """The condition (N, width) of images (N, C, H, W) with labels (N,) or (N, K); None for an unconditional GAN."""


class PlainLatents(LatentLayout):
    """The latent vector is z. The condition is the label, if the GAN is conditional.

    Args:
        z_dim: length of z.
        num_classes: width of the condition; 0 for an unconditional GAN.
    """

    def __init__(self, z_dim: int, num_classes: int) -> None:
        self.z_dim = self.noise_dim = self.latent_dim = z_dim
        self.num_classes = num_classes

    def from_noise(self, noise: Tensor) -> Tensor:
        """Standard normal numbers (N, z_dim), unchanged."""
        return noise

    def network_inputs(self, latents: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """z, and the labels as a condition vector."""
        return latents, self.condition(latents, labels)

    def condition(self, images: Tensor, labels: Tensor | None) -> Tensor | None:
        """The labels as a condition vector (N, num_classes); None for an unconditional GAN."""
        return condition_vector(labels, self.num_classes) if self.num_classes and labels is not None else None


class Generated(NamedTuple):
    """images (N, C, H, W); partners (M, C, H, W), other images of the first M conditions, M = 0 without a diversity loss."""

    images: Tensor
    partners: Tensor


def generate_images(generator: nn.Module, z: Tensor, condition: Tensor | None) -> Generated:
    """Images of z (N, z_dim) and the condition (N, width), without partners."""
    images = generator(z, condition)
    return Generated(images, images[:0])
