"""Averaged weights: the copy of a network that samples."""

import copy

import torch
from torch import Tensor, nn


class Averaged(nn.Module):
    """Exponential moving average of a network, with a half-life in images.

    A submodule of its model, so it is in the state dict, resumes and moves between devices by itself. Nothing is swapped:
    training uses the network, sampling and evaluation call this copy.

    Args:
        network: the network to average; it is copied.
        halflife_kimg: thousands of images after which an old weight counts half; 0 copies the network at each update.
        rampup: the half-life is at most this share of the images seen so far, so that early weights are soon forgotten
            (Karras et al. 2020, StyleGAN2-ADA, use 0.05); None switches it off.
    """

    def __init__(self, network: nn.Module, halflife_kimg: float, rampup: float | None = 0.05) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.halflife_kimg = halflife_kimg
        self.rampup = rampup

    def forward(self, *args: Tensor, **kwargs: Tensor) -> Tensor:
        output: Tensor = self.network(*args, **kwargs)
        return output

    def train(self, mode: bool = True) -> "Averaged":
        """Stay in eval mode: an averaged copy is never trained."""
        return super().train(False)

    def decay(self, images: int, images_seen: int) -> float:
        """Weight of the old average after a batch of `images`, 0.5 ** (images / half-life)."""
        halflife = self.halflife_kimg * 1000
        if self.rampup is not None:
            halflife = min(halflife, images_seen * self.rampup)
        return float(0.5 ** (images / halflife)) if halflife > 0 else 0.0

    @torch.no_grad()
    def update(self, network: nn.Module, images: int, images_seen: int) -> None:
        """Move the average towards `network`, which saw `images` more; its statistics are averaged too, counters copied."""
        weight = 1.0 - self.decay(images, images_seen)
        torch._foreach_lerp_(list(self.network.parameters()), list(network.parameters()), weight)
        for averaged, current in zip(self.network.buffers(), network.buffers(), strict=True):
            if averaged.is_floating_point():
                averaged.lerp_(current, weight)
            else:
                averaged.copy_(current)
