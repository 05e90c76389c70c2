"""The base of models of discrete codes: a tokenizer, a prior of its codes, and samples of both."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from genai.models.base import ImageModel, NetworkFactory, Shape
from genai.models.conditions import check_labels
from genai.models.ema import Averaged
from genai.models.seeds import seeded_uniform
from genai.models.vqvae.code_sampling import CodeSampling
from genai.models.vqvae.prior import CodePrior, CodePriorFactory
from genai.models.vqvae.quantizers import Quantizer, VectorQuantizer
from genai.models.vqvae.reconstruction import Pixelwise, Reconstruction
from genai.models.vqvae.tokenizer import Tokenizer


class Stages(nn.Module):
    """The modules of both stages; the averaged weights are a copy of it."""

    def __init__(self, tokenizer: Tokenizer, prior: CodePrior) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.prior = prior


class CodeModel(ImageModel):
    """A tokenizer and a prior of its codes, with their averages; a subclass implements training.

    Args:
        image_shape: (C, H, W), linked from the data.
        num_classes: width of the condition (classes, attributes, words of the vocabulary), linked from the data.
        encoder: factory of the network image -> (N, dim, h, w); it gets the shape of the image and the quantizer's dim.
        decoder: factory of the network (N, dim, h, w) -> image; it gets the same arguments.
        prior: factory of the network (codes, condition, cache) -> logits, such as a Transformer.
        quantizer: the default is VectorQuantizer.
        reconstruction: loss of the tokenizer, besides the quantizer's; the default is the squared error.
        conditional: condition the prior on the labels; otherwise the labels are unused.
        code_sampling: how codes are sampled; options of `sample` take precedence.
        ema_halflife_kimg: half-life of the averaged networks, in thousands of images.
        options: of `Model`.
    """

    sample_chunk = 128

    def __init__(
        self,
        image_shape: Shape,
        num_classes: int,
        encoder: NetworkFactory,
        decoder: NetworkFactory,
        prior: CodePriorFactory,
        quantizer: Quantizer | None = None,
        reconstruction: Reconstruction | None = None,
        conditional: bool = False,
        code_sampling: CodeSampling | None = None,
        ema_halflife_kimg: float = 10.0,
        **options: Any,
    ) -> None:
        super().__init__(image_shape, num_classes, **options)
        check_labels(conditional, num_classes)
        self.conditional = conditional
        quantizer = quantizer or VectorQuantizer()
        self.tokenizer = Tokenizer(
            encoder(self.image_shape, quantizer.dim),
            quantizer,
            decoder(self.image_shape, quantizer.dim),
            reconstruction or Pixelwise(),
        )
        grid = self.tokenizer.grid(self.image_shape)
        self.prior = CodePrior(prior, quantizer.num_codes, grid, num_classes if conditional else 0)
        self.averaged = Averaged(self.trained_network(), ema_halflife_kimg)
        self.code_sampling = code_sampling or CodeSampling()

    def trained_network(self) -> Stages:
        return Stages(self.tokenizer, self.prior)

    @property
    def averaged_network(self) -> Stages:
        """The averaged networks."""
        return self.averaged.network  # type: ignore[return-value]

    @torch.no_grad()
    def codes(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] -> codes (N, h, w) int64."""
        return self.averaged_network.tokenizer.encode(images.to(self.device))

    @torch.no_grad()
    def decode_codes(self, codes: Tensor) -> Tensor:
        """Codes (N, h, w) int64 -> images (N, C, H, W) in [-1, 1]."""
        return self.averaged_network.tokenizer.decode(codes.to(self.device))

    @torch.no_grad()
    def reconstruct(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        """Encode images (N, C, H, W) in [-1, 1] to codes and decode these, deterministic; the condition is unused."""
        return self.averaged_network.tokenizer.decode(self.averaged_network.tokenizer.encode(images))

    def generate(self, seeds: Sequence[int], condition: Tensor | None, **settings: Any) -> Tensor:
        """Sample the codes of one image per seed and decode them: (len(seeds), C, H, W) in [-1, 1].

        Args:
            seeds: of the uniform numbers, one for each code.
            condition: (N,) classes, (N, num_classes) attributes or (N, L) words.
            settings: fields of `CodeSampling`, which replace the model's own.
        """
        u = seeded_uniform(seeds, (math.prod(self.prior.grid),), self.device)
        codes = self.averaged_network.prior.sample(u, self.encode_condition(condition), replace(self.code_sampling, **settings))
        return self.averaged_network.tokenizer.decode(codes)
