"""What a model can do besides `sample`: a verb asks for one of these protocols, never for a family."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class ScoresRealness(Protocol):
    """A model that says how real an image looks."""

    def realness(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        """Probability of being real (N,) in [0, 1] for images (N, C, H, W) in [-1, 1]."""


@runtime_checkable
class Classifies(Protocol):
    """A model that tells classes apart."""

    def predict(self, images: Tensor) -> Tensor:
        """Probabilities (N, num_classes) for images (N, C, H, W), uint8 or float in [-1, 1]."""


@runtime_checkable
class HasSampler(Protocol):
    """A model that draws in steps; `sample` takes the fields of `sampling` as options."""

    sampling: Any


@runtime_checkable
class Resamples(Protocol):
    """A model that can draw several images for a seed and keep one; `sample` takes their `num_candidates` as an option."""

    resampling: Any


@runtime_checkable
class InitialisesFromRun(Protocol):
    """A model whose training can begin with the weights of another run."""

    def initialise_from(self, state: Mapping[str, Tensor]) -> None:
        """Take what `export_state` of the other model gave; RuntimeError where its network is another one."""


@runtime_checkable
class Varies(Protocol):
    """A model that draws variations of an image."""

    def vary(
        self, images: Tensor, seeds: Sequence[int], strength: float, condition: Tensor | None = None, **settings: Any
    ) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] -> variations of them, the input itself for strength 0."""


@runtime_checkable
class Restores(Protocol):
    """A model that fills in what is missing of an image."""

    def restore(
        self, images: Tensor, mask: Tensor, seeds: Sequence[int], condition: Tensor | None = None, **settings: Any
    ) -> Tensor:
        """Images (N, C, H, W) in [-1, 1], filled in where `mask` (N, 1, H, W) is 1 -> (N, C, H, W)."""


@runtime_checkable
class Upscales(Protocol):
    """A model that draws images from smaller ones."""

    def upscale(self, small: Tensor, seeds: Sequence[int], condition: Tensor | None = None, **settings: Any) -> Tensor:
        """Images (N, C, H / f, W / f) in [-1, 1] -> (N, C, H, W)."""


@runtime_checkable
class Reconstructs(Protocol):
    """A model that draws an image again from its code."""

    def reconstruct(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] -> the same from their codes, (N, C, H, W), without chance."""


@runtime_checkable
class Decodes(Protocol):
    """A model that draws an image from a latent vector."""

    def latents(self, seeds: Sequence[int]) -> Tensor:
        """The latents (len(seeds), D) of which `sample` draws."""

    def decode(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Latents (N, D) -> images (N, C, H, W) in [-1, 1]."""


@runtime_checkable
class Encodes(Decodes, Protocol):
    """A model that also finds the latent vector of an image."""

    def encode(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] -> latents (N, D), without chance."""


@runtime_checkable
class EvaluatesBound(Protocol):
    """A model with a lower bound of its likelihood, by importance sampling."""

    def log_likelihood(self, images: Tensor, seeds: Sequence[int], num_samples: int, condition: Tensor | None = None) -> Tensor:
        """Bound of ln p(x) in nats, summed over pixels, (N,) float64; tighter with more samples."""


@runtime_checkable
class ExactLikelihood(Protocol):
    """A model with a density."""

    def bits_per_dim(self, images: Tensor, seeds: Sequence[int], condition: Tensor | None = None, steps: int = 50) -> Tensor:
        """Bits per dimension (N,) of uint8 images given as (N, C, H, W) in [-1, 1]."""


@runtime_checkable
class ShowsProcess(Protocol):
    """A model whose forward and reverse process can be watched."""

    def forward_process(self, images: Tensor, seeds: Sequence[int], num_levels: int) -> Tensor:
        """Images (N, C, H, W) -> the same with more and more noise, (num_levels, N, C, H, W), each about within [-1, 1]."""

    def reverse_trajectory(self, seeds: Sequence[int], condition: Tensor | None = None, **settings: Any) -> Tensor:
        """What `sample` passes through, from noise to the images: (steps + 1, N, C, H, W), each about within [-1, 1]."""
