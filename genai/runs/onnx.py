"""A generative model as an ONNX graph: from noise and a label to the image, any batch size.

Samplers are unrolled. The denoiser of a diffusion model is one function of the file, which every evaluation calls.

The graph is float32 and uses the averaged weights. Its random numbers are inputs, so that it is deterministic: standard normal
`noise`, and `uniform` numbers where a model samples codes, candidates or mixture components.
"""

import logging
import warnings
from collections.abc import Mapping, Sequence
from functools import partial, singledispatch
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan
from torch.onnx import ops

from genai import __version__
from genai.errors import UserError
from genai.files import open_atomically
from genai.models.base import ImageModel
from genai.models.diffusion.diffusion import Diffusion
from genai.models.diffusion.guidance import guided
from genai.models.gan.gan import GAN
from genai.models.gan.latents import LatentLayout
from genai.models.seeds import SeededRandom
from genai.models.vae.gaussian import Mixture
from genai.models.vae.vae import VAE
from genai.models.vqvae.prior import guided_logits
from genai.models.vqvae.vqvae import VQVAE
from genai.runs import Run
from genai.runs.sampling import default_condition

DOMAIN, DENOISE = "genai", "denoise"  # of the function in the file of a diffusion model
EXAMPLE = 3  # images in the batch that is traced; 0 and 1 would be taken for constants


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
    """Uniform numbers (N, L), one for each code -> images.

    The codes are sampled in one loop of the graph, each from a whole pass of the prior: unrolled with a cache, 49 codes make a
    graph that takes more than a quarter of an hour to export.
    """

    def __init__(self, model: VQVAE) -> None:
        height, width = model.prior.grid
        super().__init__(model, RandomInput("uniform", (height * width,), "uniform"))

    def forward(self, uniform: Tensor, condition: Tensor | None = None) -> Tensor:
        trained, settings = self.model.averaged_network, self.model.code_sampling
        prior = trained.prior
        encoded = self.model.encode_condition(condition)
        positions = torch.arange(uniform.shape[1])

        def step(codes: Tensor, own: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            u, position = own  # (N,), ()

            def logits_of(condition: Tensor | None) -> Tensor:
                return prior.network(codes[:, :-1], condition).index_select(1, position[None])[:, 0].float()  # (N, K)

            code = settings.sample(guided_logits(logits_of, encoded, settings.guidance_scale), u)
            return torch.where(positions == position, code[:, None], codes), code.clone()

        _, codes = scan(step, torch.zeros_like(uniform, dtype=torch.long), (uniform.t(), positions))  # (L, N)
        return trained.tokenizer.decode(codes.t().unflatten(1, prior.grid))  # type: ignore[no-any-return]


class Sigmas(list[float]):
    """Sigmas as numbers, which samplers read like a tensor: constants of the graph."""

    def tolist(self) -> list[float]:
        """The sigmas."""
        return list(self)


@singledispatch
def sampling_graph(model: Any) -> SamplingGraph:
    """The graph of a model; UserError for one that generates no images from noise."""
    raise UserError(f"{type(model).__name__} models have no ONNX graph: name a GAN, VAE, VQ-VAE or diffusion model")


@sampling_graph.register
def _(model: GAN) -> SamplingGraph:
    return ResampledGANGraph(model) if model.resampling is not None else GANGraph(model)


sampling_graph.register(Diffusion, DiffusionGraph)
sampling_graph.register(VAE, VAEGraph)
sampling_graph.register(VQVAE, VQVAEGraph)


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


def export_onnx(run: Run, model: Any, path: Path) -> int:
    """Write the graph of a run's model; returns the size of the file in bytes.

    Args:
        run: for the condition, and as metadata.
        model: in eval mode, on the processor.
        path: of the file; it is replaced.

    Raises:
        UserError: the onnx packages are missing, or the model has no graph.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  (torch.onnx needs it)
    except ImportError:
        raise UserError('an ONNX graph needs packages that are not installed: pip install "genai[onnx]"') from None
    graph = sampling_graph(model).eval()
    arguments = example(run, graph, range(EXAMPLE))
    names = [*(own.name for own in graph.inputs), "label"][: len(arguments)]
    proto = trace(graph, arguments, names, nested=isinstance(graph, VAEGraph))
    if isinstance(graph, DiffusionGraph):
        encoded = model.encode_condition(arguments[1] if len(arguments) > 1 else None)
        inputs = [arguments[0][:, 0], torch.ones(EXAMPLE), *([] if encoded is None else [encoded])]
        denoiser_names = ["x", "sigma", "condition"][: len(inputs)]
        add_function(proto, trace(DenoiserGraph(model).eval(), inputs, denoiser_names))
    onnx.helper.set_model_props(proto, dict(describe(run, graph)))
    with open_atomically(path) as file:
        file.write(proto.SerializeToString())
    return path.stat().st_size


def trace(graph: nn.Module, arguments: Sequence[Tensor], names: Sequence[str], nested: bool = False) -> Any:
    """The ModelProto of a module for any batch size; `nested`: all arguments after the first are `*others` of `forward`."""
    batch = torch.export.Dim("batch", min=1)
    shapes: list[Any] = [{0: batch} for _ in arguments]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            graph,
            tuple(arguments),
            input_names=names,
            output_names=["images"],
            dynamic_shapes=(shapes[0], tuple(shapes[1:])) if nested and shapes[1:] else tuple(shapes),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def add_function(proto: Any, function: Any) -> None:
    """Add a traced module as the function DENOISE to a model that calls it. Its weights are stored once.

    A function of ONNX has no weights, so they become initializers of the model that each call passes.
    """
    from onnx import helper

    weights = [f"{DENOISE}.{own.name}" for own in function.graph.initializer]
    for node in proto.graph.node:
        if (node.domain, node.op_type) == (DOMAIN, DENOISE):
            node.input.extend(weights)
    inputs = [own.name for own in (*function.graph.input, *function.graph.initializer)]
    outputs = [own.name for own in function.graph.output]
    body = helper.make_function(DOMAIN, DENOISE, inputs, outputs, function.graph.node, function.opset_import)
    for name, own in zip(weights, function.graph.initializer, strict=True):
        proto.graph.initializer.add().CopyFrom(own)
        proto.graph.initializer[-1].name = name
    proto.functions.extend([*function.functions, body])
    imported = {own.domain for own in proto.opset_import}
    proto.opset_import.extend(own for own in function.opset_import if own.domain not in imported)


def example(run: Run, graph: SamplingGraph, seeds: Sequence[int]) -> list[Tensor]:
    """Arguments of the graph for `seeds`: random numbers and the default condition."""
    model: ImageModel = graph.model
    condition = default_condition(run, model, len(seeds))
    return graph.random(seeds) + ([] if condition is None else [condition])


def describe(run: Run, graph: SamplingGraph) -> Mapping[str, str]:
    """What the file says of itself: what it is, and what each input is."""
    record = run.record()
    about = {"software": f"genai {__version__}", "run": run.name, "model": record["model"], "data": record["data"]}
    for own in graph.inputs:
        numbers = "standard normal" if own.kind == "normal" else "uniform in (0, 1)"
        about[own.name] = (
            f"float32 (N, {', '.join(map(str, own.shape))}), {numbers}" if own.shape else f"float32 (N,), {numbers}"
        )
    if graph.model.conditional:
        about["label"] = f"{record.get('label_kind', 'class')}: {', '.join(map(str, record['class_names'][:100]))}"
    return about | {"images": "float32 (N, C, H, W) in [-1, 1], generated by a model"}
