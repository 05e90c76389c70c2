"""Generative models as graphs that torch can trace: from random numbers and a label to the image, any batch size.

Samplers are unrolled; tokens are sampled in a loop of the graph. The random numbers are inputs, so that a graph is
deterministic: standard normal `noise`, and `uniform` numbers where a model samples codes, pixels, candidates or mixture
components.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial, singledispatch
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan
from torch.onnx import ops

from genai.errors import UserError
from genai.models.autoregressive.pixels import PixelSequence
from genai.models.diffusion.diffusion import Diffusion
from genai.models.diffusion.guidance import guided
from genai.models.gan.gan import GAN
from genai.models.gan.latents import LatentLayout
from genai.models.seeds import SeededRandom
from genai.models.vae.gaussian import Mixture
from genai.models.vae.vae import VAE
from genai.models.vqvae.prior import guided_logits
from genai.models.vqvae.vqvae import VQVAE

DOMAIN, DENOISE = "genai", "denoise"  # of the function in the file of a diffusion model


class RandomInput(NamedTuple):
    """An input of random numbers (N, *shape), `normal` or `uniform` in (0, 1)."""

    name: str
    shape: tuple[int, ...]
    kind: str


class SamplingGraph(nn.Module):
    """From random numbers and a condition to images (N, C, H, W) in [-1, 1].

    Attributes:
        model: the generative model.
        inputs: the random numbers, in the order of `forward`; the condition of a conditional model is the last argument.
    """

    def __init__(self, model: Any, *inputs: RandomInput) -> None:
        super().__init__()
        self.model = model
        self.inputs = inputs

    def random(self, seeds: Sequence[int]) -> list[Tensor]:
        """The numbers with which the graph generates what `model.sample` generates from `seeds`."""
        source = SeededRandom(seeds)
        return [
            source.normal(own.shape) if own.kind == "normal" else source.uniform(own.shape).float().clamp(max=1 - 2**-24)
            for own in self.inputs
        ]


class GANGraph(SamplingGraph):
    """Noise (N, D) -> latents -> images."""

    quantiles: Tensor

    def __init__(self, model: GAN) -> None:
        super().__init__(model, RandomInput("noise", (model.layout.noise_dim,), "normal"))
        self.register_buffer("quantiles", cluster_quantiles(model))

    def forward(self, noise: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.model.decode(latents_of(self.model, noise, self.quantiles), condition)  # type: ignore[no-any-return]


class ResampledGANGraph(SamplingGraph):
    """Noise (N, candidates, D) and uniform numbers (N,) -> the candidates that the discriminator chooses."""

    quantiles: Tensor

    def __init__(self, model: GAN) -> None:
        assert model.resampling is not None
        num = model.resampling.num_candidates
        super().__init__(
            model, RandomInput("noise", (num, model.layout.noise_dim), "normal"), RandomInput("uniform", (), "uniform")
        )
        self.register_buffer("quantiles", cluster_quantiles(model))

    def forward(self, noise: Tensor, uniform: Tensor, condition: Tensor | None = None) -> Tensor:
        layout: LatentLayout = self.model.layout
        shared = noise[:, 0, layout.z_dim :]
        images, logits = [], []
        for own in noise.unbind(dim=1):
            latents = latents_of(self.model, torch.cat([own[:, : layout.z_dim], shared], dim=1), self.quantiles)
            z, vector = layout.network_inputs(latents, condition)
            images.append(self.model.averaged(z, vector))
            logits.append(self.model.discriminator(images[-1], vector))
        chosen = self.model.resampling.choose(torch.stack(logits, dim=1), uniform)  # (N,)
        stacked = torch.stack(images, dim=1)  # (N, candidates, C, H, W)
        one_hot = chosen[:, None] == torch.arange(stacked.shape[1])
        return torch.where(one_hot[:, :, None, None, None], stacked, torch.zeros_like(stacked)).sum(dim=1)


class DiffusionGraph(SamplingGraph):
    """Noise (N, R, C, H, W) -> images: the first of the R tensors is the initial noise, stochastic samplers use the others."""

    def __init__(self, model: Diffusion) -> None:
        if model.sampling.sampler == "adaptive":
            raise UserError("the adaptive sampler has no fixed number of steps: an ONNX graph needs another sampler")
        self.sigmas = Sigmas(model.sampling.sigmas().tolist())
        noises: list[int] = []

        def new_noise() -> Tensor:
            noises.append(1)
            return torch.zeros(1, *model.image_shape)

        model.sampling.run_sampler(lambda x, sigma: x, new_noise(), self.sigmas, new_noise)  # type: ignore[arg-type]
        super().__init__(model, RandomInput("noise", (len(noises), *model.image_shape), "normal"))

    def forward(self, noise: Tensor, condition: Tensor | None = None) -> Tensor:
        model, noises = self.model, iter(noise.unbind(dim=1))
        encoded = model.encode_condition(condition)
        conditional = partial(denoise_by_function, condition=encoded)
        guide = partial(denoise_by_function, condition=None if encoded is None else torch.zeros_like(encoded))
        denoise = guided(conditional, guide, model.sampling.guidance_scale, model.sampling.guidance_interval)
        x = self.sigmas[0] * next(noises)
        return model.sampling.run_sampler(denoise, x, self.sigmas, partial(next, noises)).clamp(-1, 1)  # type: ignore[no-any-return]


def denoise_by_function(x: Tensor, sigma: Tensor, condition: Tensor | None) -> Tensor:
    """A call of the ONNX function that `DenoiserGraph` becomes; it has no value outside of an export."""
    inputs = [x, sigma] if condition is None else [x, sigma, condition]
    return ops.symbolic(f"{DOMAIN}::{DENOISE}", inputs, dtype=x.dtype, shape=x.shape, version=1)


class DenoiserGraph(nn.Module):
    """Noisy images (N, C, H, W), noise levels (N,) and encoded conditions -> denoised images."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, sigma: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.model.denoiser(self.model.averaged, condition)(x, sigma)  # type: ignore[no-any-return]


class VAEGraph(SamplingGraph):
    """Noise (N, D) and, for a prior that is a mixture, uniform numbers (N,) -> images."""

    def __init__(self, model: VAE) -> None:
        prior = model.averaged_network.latent_distribution()
        self.components = prior.components if isinstance(prior, Mixture) else None
        choice = [RandomInput("uniform", (), "uniform")] if self.components else []
        super().__init__(model, RandomInput("noise", (model.latent_dim,), "normal"), *choice)

    def forward(self, noise: Tensor, *others: Tensor) -> Tensor:
        z = noise
        if self.components is not None:
            mean, log_var = self.components.mean.detach(), self.components.log_var.detach()
            rows = (others[0].double() * len(mean)).long()
            z, others = mean[rows] + (0.5 * log_var[rows]).exp() * noise, others[1:]
        condition = others[0] if others else None
        vectors = self.model.condition_vectors(condition, noise.shape[0])
        return self.model.averaged_network.decode(z, vectors)  # type: ignore[no-any-return]


class VQVAEGraph(SamplingGraph):
    """Uniform numbers (N, L), one for each code -> images."""

    def __init__(self, model: VQVAE) -> None:
        super().__init__(model, RandomInput("uniform", (math.prod(model.prior.grid),), "uniform"))

    def forward(self, uniform: Tensor, condition: Tensor | None = None) -> Tensor:
        trained, settings = self.model.averaged_network, self.model.code_sampling
        prior = trained.prior
        encoded = self.model.encode_condition(condition)

        def sample(codes: Tensor, position: Tensor, u: Tensor) -> Tensor:
            def logits_of(condition: Tensor | None) -> Tensor:
                return logits_at(position, prior.network(codes[:, :-1], condition))

            return settings.sample(guided_logits(logits_of, encoded, settings.guidance_scale), u)  # type: ignore[no-any-return]

        return trained.tokenizer.decode(sampled_in_a_loop(sample, uniform).unflatten(1, prior.grid))  # type: ignore[no-any-return]


class PixelSequenceGraph(SamplingGraph):
    """Uniform numbers (N, L), one for each patch -> images."""

    def __init__(self, model: PixelSequence) -> None:
        super().__init__(model, RandomInput("uniform", (math.prod(model.grid),), "uniform"))

    def forward(self, uniform: Tensor, condition: Tensor | None = None) -> Tensor:
        model = self.model
        encoded = model.encode_condition(condition)

        def sample(tokens: Tensor, position: Tensor, u: Tensor) -> Tensor:
            return model.token_sampling.sample(logits_at(position, model.averaged(tokens[:, :-1], encoded)), u)  # type: ignore[no-any-return]

        return model.to_images(sampled_in_a_loop(sample, uniform))  # type: ignore[no-any-return]


def logits_at(position: Tensor, logits: Tensor) -> Tensor:
    """Logits (N, L, K) at one position, () int64: (N, K) float32."""
    return logits.index_select(1, position[None])[:, 0].float()


def sampled_in_a_loop(sample: Callable[[Tensor, Tensor, Tensor], Tensor], uniform: Tensor) -> Tensor:
    """Sample tokens (N, L) int64 in one loop of the graph, each from a whole pass of the network.

    Unrolled with a cache, 49 tokens make a graph that takes more than a quarter of an hour to export.

    Args:
        sample: from the tokens so far (N, L), a position () and uniform numbers (N,), the tokens (N,) at that position.
        uniform: numbers in (0, 1), (N, L).
    """
    positions = torch.arange(uniform.shape[1])

    def step(tokens: Tensor, own: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        u, position = own  # (N,), ()
        token = sample(tokens, position, u)
        return torch.where(positions == position, token[:, None], tokens), token.clone()

    _, tokens = scan(step, torch.zeros_like(uniform, dtype=torch.long), (uniform.t(), positions))  # (L, N)
    return tokens.t()


class Sigmas(list[float]):
    """Sigmas as numbers, which samplers read like a tensor: constants of the graph."""

    def tolist(self) -> list[float]:
        """The sigmas."""
        return list(self)


@singledispatch
def sampling_graph(model: Any) -> SamplingGraph:
    """The graph of a model; UserError for one that generates no images from noise."""
    raise UserError(f"{type(model).__name__} models have no ONNX graph: name a model of images")


@sampling_graph.register
def _(model: GAN) -> SamplingGraph:
    return ResampledGANGraph(model) if model.resampling is not None else GANGraph(model)


sampling_graph.register(Diffusion, DiffusionGraph)
sampling_graph.register(VAE, VAEGraph)
sampling_graph.register(VQVAE, VQVAEGraph)
sampling_graph.register(PixelSequence, PixelSequenceGraph)


def cluster_quantiles(model: GAN) -> Tensor | None:
    """Between which normal numbers each cluster is chosen: (G, K - 1) float32; None for a GAN without clusters."""
    if model.clusters is None:
        return None
    ends = model.clusters.shares.double().cumsum(dim=1)
    return torch.special.ndtri(ends / ends[:, -1:])[:, :-1].float()


def latents_of(model: GAN, noise: Tensor, quantiles: Tensor | None) -> Tensor:
    """`layout.from_noise` without operations that ONNX lacks: noise (N, D) -> latents (N, latent_dim).

    The cluster of a normal number is the number of `cluster_quantiles` below it.
    """
    if model.clusters is None or quantiles is None:
        return model.layout.from_noise(noise)
    z, choices = noise[:, : model.layout.z_dim], noise[:, model.layout.z_dim :]  # (N, G)
    chosen = (choices[:, :, None] > quantiles).sum(dim=2)
    one_hot = chosen[:, :, None] == torch.arange(model.clusters.num_clusters)
    return torch.cat([z, one_hot.flatten(1).float()], dim=1)
