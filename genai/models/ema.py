"""Averaged weights: the copy of a network that samples, and averages whose length is chosen after training."""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
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


# -- averages of any length, after training: Karras et al. 2023, EDM2, arXiv:2312.02696, section 3 ------------------------


class PowerAveraged(nn.Module):
    """Average of a network's weights in which those at time t count as t^gamma (EDM2, equation 1).

    Its length is a fixed share of the training so far. From snapshots of two such averages `reconstruct` makes one of any
    length. A submodule of its model, like `Averaged`.

    Args:
        network: the network to average; it is copied.
        std: width of the profile t^gamma as a share of the training, 0.01 to 0.2.
    """

    def __init__(self, network: nn.Module, std: float) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.std = std
        self.gamma = gamma_of(std)

    @torch.no_grad()
    def update(self, network: nn.Module, images: int, images_seen: int) -> None:
        """Move the average towards `network`, which saw `images` more; `images_seen` counts them."""
        kept = (1 - images / images_seen) ** (self.gamma + 1)  # equation 2
        torch._foreach_lerp_(list(self.network.parameters()), list(network.parameters()), 1 - kept)
        for averaged, current in zip(self.network.buffers(), network.buffers(), strict=True):
            averaged.copy_(current)


def gamma_of(std: float) -> float:
    """The gamma >= 0 whose profile (gamma + 1) t^gamma on [0, 1] has standard deviation `std` (EDM2, equation 3).

    Raises:
        ValueError: `std` is outside of (0, 0.28].
    """
    roots = np.roots([1, 7, 16 - std**-2, 12 - std**-2]).real
    gamma = float(roots.max())
    if not 0 < std <= math.sqrt(1 / 12) or gamma < 0:
        raise ValueError(f"no power profile is {std} wide: use 0.01 to 0.28")
    return gamma


class Snapshot(NamedTuple):
    """A power-function average of `gamma` at time `t`."""

    t: float
    gamma: float
    state: Mapping[str, Tensor]


def overlap(t_a: float, gamma_a: float, t_b: float, gamma_b: float) -> float:
    """Integral over t of two profiles (gamma + 1) t^gamma / T^(gamma + 1), each on [0, T]."""
    end = min(t_a, t_b)
    at_end_a, at_end_b = (end / t_a) ** gamma_a / t_a, (end / t_b) ** gamma_b / t_b
    return (gamma_a + 1) * (gamma_b + 1) / (gamma_a + gamma_b + 1) * at_end_a * at_end_b * end


def reconstruction(snapshots: Sequence[Snapshot], t: float, std: float) -> np.ndarray:
    """Weights of the snapshots, (K,) float64 that sum to about 1, whose mixture is nearest to the profile of `std` at `t`.

    The least squares problem of EDM2, section 3.2: A x = b with the overlaps of the profiles.
    """
    gamma = gamma_of(std)
    a = np.array([[overlap(one.t, one.gamma, other.t, other.gamma) for other in snapshots] for one in snapshots])
    b = np.array([overlap(one.t, one.gamma, t, gamma) for one in snapshots])
    return np.linalg.lstsq(a, b, rcond=1e-12)[0]


def reconstruct(snapshots: Sequence[Snapshot], t: float, std: float) -> dict[str, Tensor]:
    """The average of width `std` at time `t`, as a state dict; what is no float comes from the last snapshot."""
    weights = reconstruction(snapshots, t, std)
    state = {}
    for name, last in snapshots[-1].state.items():
        if last.is_floating_point():
            mixed = sum(float(w) * s.state[name].double() for w, s in zip(weights, snapshots, strict=True))
            state[name] = torch.as_tensor(mixed).to(last.dtype)
        else:
            state[name] = last
    return state
