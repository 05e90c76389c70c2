"""Where each word of a caption acts in an image: maps of cross-attention, and the effect of leaving the word out."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from genai.control.spaces import hooks
from genai.networks.attention import Attention

NUM_LEVELS = 6  # noise levels of the forward process


def attends_to_words(model: Any) -> bool:
    """Whether the model's network has cross-attention to the words of a caption."""
    return any(isinstance(module, Attention) and module.context is not None for module in model.modules())


def cross_attention(model: Any, images: Tensor, words: Tensor) -> Tensor:
    """The attention that each position pays to each word: (N, L, H, W), mean over layers, heads and noise levels.

    Hertz et al. 2022, prompt-to-prompt, arXiv:2208.01626, section 3; Tang et al. 2022, DAAM, arXiv:2210.04885, equation 4. The
    images are not sampled: their noisy versions are denoised, so that a map can be compared with the image.

    Args:
        model: `Denoises` images, with cross-attention (`attends_to_words`).
        images: (N, C, H, W) in [-1, 1].
        words: (N, L) int64 captions, 0 for padding.
    """
    maps: list[Tensor] = []

    def add(layer: Attention, inputs: tuple[Tensor, Tensor, Tensor | None]) -> None:
        x, context, visible = inputs
        weights = layer.weights(x, context, visible).mean(dim=1)[:, :, x.shape[1] + 1 :]  # (N, positions, L)
        grid = weights.transpose(1, 2).unflatten(2, (math.isqrt(x.shape[1]), -1)).float()
        maps.append(interpolate(grid, images.shape[2:], mode="bicubic").cpu())

    layers = [m for m in model.averaged.modules() if isinstance(m, Attention) and m.context is not None]
    with hooks([layer.register_forward_pre_hook(add) for layer in layers]):
        model.denoising_errors(images, range(len(images)), words, NUM_LEVELS)
    return torch.stack(maps).mean(dim=0)


def word_effect(model: Any, images: Tensor, words: Tensor, word: int) -> Tensor:
    """How much the output of the denoiser changes in each pixel if `word` is left out of the captions: (N, H, W)."""
    outputs = [denoised(model, images, text) for text in (words, words.masked_fill(words == word, 0))]
    return torch.stack([(a - b).abs().mean(dim=1) for a, b in zip(*outputs, strict=True)]).mean(dim=0)


def denoised(model: Any, images: Tensor, words: Tensor) -> list[Tensor]:
    """The outputs (N, C, H, W) of the network at each noise level, with the same noise for every caption."""
    outputs: list[Tensor] = []
    with hooks([model.averaged.register_forward_hook(lambda module, inputs, output: outputs.append(output.float().cpu()))]):
        model.denoising_errors(images, range(len(images)), words, NUM_LEVELS)
    return outputs


def intersection(maps: Tensor, masks: Tensor) -> Tensor:
    """Intersection over union (N,) of masks (N, H, W) with as many of the largest pixels of maps (N, H, W)."""
    flat, truth = maps.flatten(1), masks.flatten(1)
    shares = []
    for values, mask in zip(flat, truth, strict=True):
        chosen = torch.zeros_like(mask)
        chosen[values.topk(int(mask.sum())).indices] = True
        shares.append(float((chosen & mask).sum()) / max(1, int((chosen | mask).sum())))
    return torch.tensor(shares)


def shares_of(words: Tensor, vocabulary: Sequence[str]) -> dict[str, float]:
    """The share of captions (N, L) that have each word."""
    return {name: float((words == k).any(dim=1).float().mean()) for k, name in enumerate(vocabulary) if k > 1}
