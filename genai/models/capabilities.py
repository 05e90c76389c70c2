"""What a model can do besides `sample`: a verb needs one of these protocols, not a certain model family."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class ScoresRealness(Protocol):
    """A model with a realness score, such as the discriminator of a GAN."""

    def realness(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        """Probability of being real (N,) in [0, 1] for images (N, C, H, W) in [-1, 1]."""


@runtime_checkable
class Classifies(Protocol):
    """A model that classifies images."""

    def predict(self, images: Tensor) -> Tensor:
        """Probabilities (N, num_classes) for images (N, C, H, W), uint8 or float in [-1, 1]."""


@runtime_checkable
class HasSampler(Protocol):
    """A model that samples in steps; `sample` takes the fields of `sampling` as options."""

    sampling: Any


@runtime_checkable
class Resamples(Protocol):
    """A model that can generate several candidates per seed and keep one; `sample` takes `num_candidates` as an option."""

    resampling: Any


@runtime_checkable
class GeneratesText(Protocol):
    """A model of sequences of tokens, see `TextModel`: samples one token after another, and gives a text its probability."""

    def stream(
        self, seeds: Sequence[int], prompt: Tensor | None = None, num_tokens: int = 256, **settings: Any
    ) -> Iterator[Tensor]:
        """The next token of each sample, (len(seeds),) int64, `num_tokens` times."""

    def text_log_probs(self, tokens: Tensor, stride: int | None = None) -> Tensor:
        """ln p of each token of a text of any length: (L,) -> (L,) float64."""


@runtime_checkable
class InitialisesFromRun(Protocol):
    """A model whose training can begin with the weights of another run."""

    def initialise_from(self, state: Mapping[str, Tensor]) -> None:
        """Load the result of the other model's `export_state`; RuntimeError if the networks differ."""


@runtime_checkable
class ReadsRun(Protocol):
    """A reward with a model of its own: the command line loads the run `run` before training and passes its model to `use`."""

    run: str

    def use(self, model: Any) -> None:
        """Take the model of the run; UserError for one of another kind."""


@runtime_checkable
class Varies(Protocol):
    """A model that generates variations of an image."""

    def vary(
        self, images: Tensor, seeds: Sequence[int], strength: float, condition: Tensor | None = None, **settings: Any
    ) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] -> variations of them, the input itself for strength 0."""


@runtime_checkable
class Restores(Protocol):
    """A model that fills in the masked part of an image."""

    def restore(
        self, images: Tensor, mask: Tensor, seeds: Sequence[int], condition: Tensor | None = None, **settings: Any
    ) -> Tensor:
        """Images (N, C, H, W) in [-1, 1], filled in where `mask` (N, 1, H, W) is 1 -> (N, C, H, W)."""


@runtime_checkable
class Upscales(Protocol):
    """A model for super-resolution."""

    def upscale(self, small: Tensor, seeds: Sequence[int], condition: Tensor | None = None, **settings: Any) -> Tensor:
        """Images (N, C, H / f, W / f) in [-1, 1] -> (N, C, H, W)."""


@runtime_checkable
class Reconstructs(Protocol):
    """A model that encodes and decodes an image."""

    def reconstruct(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] -> their reconstructions, (N, C, H, W), deterministic."""


@runtime_checkable
class HasCodes(Protocol):
    """A model of discrete codes."""

    def codes(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] -> codes (N, h, w) int64."""

    def decode_codes(self, codes: Tensor) -> Tensor:
        """Codes (N, h, w) int64 -> images (N, C, H, W) in [-1, 1]."""


@runtime_checkable
class Decodes(Protocol):
    """A model that decodes latent vectors."""

    def latents(self, seeds: Sequence[int]) -> Tensor:
        """The latents (len(seeds), D) that `sample` decodes."""

    def decode(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Latents (N, D) -> images (N, C, H, W) in [-1, 1]."""


@runtime_checkable
class Encodes(Decodes, Protocol):
    """A model that also encodes an image to a latent vector."""

    def encode(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] -> latents (N, D), deterministic."""


class Intermediate(NamedTuple):
    """An intermediate latent space W, between the mapping and the synthesis network (StyleGAN, arXiv:1812.04948).

    to_w: latents (N, D) and their condition -> w (N, E).
    decode: w (N, E) -> images (N, C, H, W) in [-1, 1].
    """

    to_w: Callable[[Tensor, Tensor | None], Tensor]
    decode: Callable[[Tensor], Tensor]


@runtime_checkable
class HasIntermediate(Decodes, Protocol):
    """A model that may have an intermediate latent space, where directions are easier to separate."""

    def intermediate(self) -> Intermediate | None:
        """The space W; None if the network has none."""


class LikelihoodEstimate(NamedTuple):
    """Estimates of the negative log-likelihood of N images; lower is better.

    nats: -ln p(x), summed over the pixels and channels of an image, (N,) float64.
    bits_per_dim: the same in bits, divided by the number of pixels times channels, (N,) float64.
    kind: what the numbers are and which pixels they are of, such as "ELBO, binarised pixels", "IWAE bound with 5,000 samples,
        binarised pixels" or "exact (probability-flow ODE, 100 steps), 8-bit pixels".
    """

    nats: Tensor
    bits_per_dim: Tensor
    kind: str

    @classmethod
    def of_log_prob(cls, log_prob: Tensor, num_dims: int, kind: str) -> "LikelihoodEstimate":
        """The estimate of ln p(x) in nats (N,), for images of `num_dims` pixels times channels."""
        nats = -log_prob.double()
        return cls(nats, nats / (num_dims * math.log(2)), kind)


@runtime_checkable
class ExactLikelihood(Protocol):
    """A model whose log-likelihood is computed without a bound, up to the error of an ODE solver.

    That of a model that `HasSampler` has one more argument, `steps` of the solver.
    """

    def likelihood(self, images: Tensor, seeds: Sequence[int], condition: Tensor | None = None) -> LikelihoodEstimate:
        """-ln p(x) of 8-bit images given as (N, C, H, W) in [-1, 1].

        Args:
            images: (N, C, H, W) in [-1, 1].
            seeds: of all random numbers, one for each image.
            condition: see `ImageModel.sample`.
        """


@runtime_checkable
class EvaluatesBound(Protocol):
    """A model with a lower bound on its log-likelihood, by importance sampling."""

    def likelihood_bound(
        self, images: Tensor, seeds: Sequence[int], condition: Tensor | None = None, num_samples: int = 1
    ) -> LikelihoodEstimate:
        """Upper bound on -ln p(x): the ELBO for one sample, the tighter IWAE bound for more.

        Args:
            images: (N, C, H, W) in [-1, 1].
            seeds: of all random numbers, one for each image.
            condition: see `ImageModel.sample`.
            num_samples: importance samples of each image.
        """


@runtime_checkable
class Denoises(Protocol):
    """A model with a denoising loss of each image."""

    def denoising_errors(
        self, images: Tensor, seeds: Sequence[int], condition: Tensor | None = None, num_levels: int = 10
    ) -> Tensor:
        """The denoising loss (N,) of images (N, C, H, W) in [-1, 1], mean over noise levels; noise by the seeds."""


@runtime_checkable
class InvertsNoise(Protocol):
    """A model whose sampler can be run backwards; `sample` takes `initial_noise`."""

    def invert(
        self,
        images: Tensor,
        condition: Tensor | None = None,
        steps: int = 12,
        sigma_min: float = 0.4,
        restore_from: float = 0.0,
    ) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] -> the initial noise (N, C, H, W) that the deterministic sampler would start from."""


@runtime_checkable
class ShowsProcess(Protocol):
    """A model with a forward process and a reverse trajectory."""

    def forward_process(self, images: Tensor, seeds: Sequence[int], num_levels: int) -> Tensor:
        """Images (N, C, H, W) -> the same with more and more noise, (num_levels, N, C, H, W), each about within [-1, 1]."""

    def reverse_trajectory(self, seeds: Sequence[int], condition: Tensor | None = None, **settings: Any) -> Tensor:
        """The noisy images at each evaluation of the network, then the samples: (K, N, C, H, W), each about within [-1, 1]."""
