"""Averaged weights: an exponential moving average for sampling, and power-function averages of any width after training."""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from genai.errors import check_at_least


class WarmStart:
    """Of a model whose training can begin with the averaged weights of another one (`--init_from`)."""

    def initialise_from(self: Any, state: Mapping[str, Tensor]) -> None:
        """Load the averaged weights of another model, from its `export_state`."""
        for network in (self.trained_network(), self.averaged.network):
            network.load_state_dict(state)


class Averaged(nn.Module):
    """Exponential moving average of a network's weights, with a half-life in images.

    It is a submodule of its model: it is in the state dict and moves between devices with it. Training uses the network;
    sampling and evaluation use this copy.

    Args:
        network: the network to average; it is copied.
        halflife_kimg: half-life of an old weight, in thousands of images; 0 copies the network at each update.
        rampup: the half-life is at most this share of the images seen so far, so that the initial weights have little effect
            (StyleGAN2-ADA, Karras et al. 2020, arXiv:2006.06676, uses 0.05); None for no limit.

    Raises:
        UserError: the half-life is negative.
    """

    def __init__(self, network: nn.Module, halflife_kimg: float, rampup: float | None = 0.05) -> None:
        super().__init__()
        check_at_least("ema_halflife_kimg", halflife_kimg, 0)
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.halflife_kimg = halflife_kimg
        self.rampup = rampup

    def forward(self, *args: Tensor, **kwargs: Tensor) -> Tensor:
        output: Tensor = self.network(*args, **kwargs)
        return output

    def train(self, mode: bool = True) -> "Averaged":
        """Stay in eval mode, because the copy is never trained."""
        return super().train(False)

    def decay(self, images: int, images_seen: int) -> float:
        """Weight of the old average after `images` more images: 0.5 ** (images / half-life)."""
        halflife = self.halflife_kimg * 1000
        if self.rampup is not None:
            halflife = min(halflife, images_seen * self.rampup)
        return float(0.5 ** (images / halflife)) if halflife > 0 else 0.0

    @torch.no_grad()
    def update(self, network: nn.Module, images: int, images_seen: int) -> None:
        """Update the average with the weights of `network` after `images` more images.

        Buffers of floats, such as the statistics of batch norm, are averaged; other buffers are copied.
        """
        weight = 1.0 - self.decay(images, images_seen)
        torch._foreach_lerp_(list(self.network.parameters()), list(network.parameters()), weight)
        for averaged, current in zip(self.network.buffers(), network.buffers(), strict=True):
            if averaged.is_floating_point():
                averaged.lerp_(current, weight)
            else:
                averaged.copy_(current)


# -- averages of any width after training: EDM2, Karras et al. 2023, arXiv:2312.02696, section 3 --------------------------


class PowerAveraged(nn.Module):
    """Average of a network's weights in which those of time t have weight t^gamma (EDM2, equation 1).

    Its width is a fixed share of the training so far. From snapshots of two such averages `posthoc_average` makes one of any
    width. It is a submodule of its model, as `Averaged` is.

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
        """Update the average with the weights of `network` after `images` more images, which `images_seen` includes."""
        kept = (1 - images / images_seen) ** (self.gamma + 1)  # equation 2
        torch._foreach_lerp_(list(self.network.parameters()), list(network.parameters()), 1 - kept)
        for averaged, current in zip(self.network.buffers(), network.buffers(), strict=True):
            averaged.copy_(current)


def gamma_of(std: float) -> float:
    """The gamma >= 0 whose profile (gamma + 1) t^gamma on [0, 1] has standard deviation `std` (EDM2, equation 3).

    Raises:
        ValueError: `std` is outside (1e-6, 0.28].
    """
    if not 1e-6 < std <= math.sqrt(1 / 12):
        raise ValueError(f"no power-function profile has a width of {std}: use 0.01 to 0.28")
    roots = np.roots([1, 7, 16 - std**-2, 12 - std**-2]).real
    return max(0.0, float(roots.max()))


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


def posthoc_coefficients(snapshots: Sequence[Snapshot], t: float, std: float) -> np.ndarray:
    """Weights of the snapshots, (K,) float64 with a sum of about 1, whose mixture is closest to the profile of `std` at `t`.

    They solve the least-squares problem of EDM2, section 3.2: A x = b with the overlaps of the profiles.
    """
    gamma = gamma_of(std)
    a = np.array([[overlap(one.t, one.gamma, other.t, other.gamma) for other in snapshots] for one in snapshots])
    b = np.array([overlap(one.t, one.gamma, t, gamma) for one in snapshots])
    return np.linalg.lstsq(a, b, rcond=1e-12)[0]


def posthoc_average(snapshots: Sequence[Snapshot], t: float, std: float) -> dict[str, Tensor]:
    """The state dict of the average of width `std` at time `t`; values that are not floats come from the last snapshot."""
    weights = posthoc_coefficients(snapshots, t, std)
    state = {}
    for name, last in snapshots[-1].state.items():
        if last.is_floating_point():
            mixed = sum(float(w) * s.state[name].double() for w, s in zip(weights, snapshots, strict=True))
            state[name] = torch.as_tensor(mixed).to(last.dtype)
        else:
            state[name] = last
    return state
