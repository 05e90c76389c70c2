"""Likelihoods p(x|z): from a decoder's output to nats and to a mean image. A new one is one small module.

All are of discrete pixels, so that their bits can be counted: of 2 values for Bernoulli, else of 256.
"""

import math
import zlib
from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid, softplus

from genai.models.seeds import seeded_uniform

LOG_STD_GAIN = 20.0  # Adam moves a weight by its learning rate a step, too slow for what begins at 1 and ends near 0.05
MAX_LOG_SCALE = 5.0  # of the logistic distribution: flat over all pixel values
HALF_LEVEL = 1 / 255  # half the distance of two neighbouring values of uint8 pixels in [-1, 1]
Binarisation = Literal["dynamic", "static"]


class Likelihood(nn.Module):
    """p(x|z), the pixels independent given z."""

    @abstractmethod
    def num_parameters(self, channels: int) -> int:
        """How many channels the decoder's output has, for images of `channels`."""

    @abstractmethod
    def observe(self, images: Tensor, u: Tensor) -> Tensor:
        """What is modelled: x (N, C, H, W) in about [-1, 1], of images in [-1, 1] and uniform numbers `u` of their shape."""

    @abstractmethod
    def typical(self, images: Tensor) -> Tensor:
        """The most likely x of images (N, C, H, W) in [-1, 1], for an encoding without chance."""

    @abstractmethod
    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        """ln p(x|z) in nats, summed over pixels: parameters (..., N, P, H, W), x (N, C, H, W) -> (..., N)."""

    @abstractmethod
    def mean(self, parameters: Tensor) -> Tensor:
        """Parameters (N, P, H, W) -> mean images (N, C, H, W) in [-1, 1]."""


class Bernoulli(Likelihood):
    """Black or white pixels; the decoder gives logits. Grey pixels are binarised: white with their brightness as probability.

    Args:
        binarisation: `dynamic`, a new draw whenever an image is seen (Salakhutdinov & Murray 2008); `static`, a draw that is
            a function of the image's content, always the same.
    """

    def __init__(self, binarisation: Binarisation = "dynamic") -> None:
        super().__init__()
        self.binarisation = binarisation

    def num_parameters(self, channels: int) -> int:
        return channels

    def observe(self, images: Tensor, u: Tensor) -> Tensor:
        """x of -1 and 1."""
        u = u if self.binarisation == "dynamic" else content_uniform(images)
        return 2 * (u < (images + 1) / 2).float() - 1

    def typical(self, images: Tensor) -> Tensor:
        """White where more than half as bright as white."""
        return 2 * (images > 0).float() - 1

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        targets = ((x + 1) / 2).expand_as(parameters)
        return -binary_cross_entropy_with_logits(parameters, targets, reduction="none").sum(dim=(-3, -2, -1))

    def mean(self, parameters: Tensor) -> Tensor:
        return 2 * parameters.sigmoid() - 1


class DiscretisedLogistic(Likelihood):
    """256 values: the share of a logistic distribution that rounds to each, all of the rest at the ends (Kingma et al. 2016,
    arXiv:1606.04934, section 5.2). The decoder gives means and log-scales.

    Args:
        min_log_scale: the narrowest distribution, about a hundredth of a level at -11.
    """

    def __init__(self, min_log_scale: float = -7.0) -> None:
        super().__init__()
        self.min_log_scale = min_log_scale

    def num_parameters(self, channels: int) -> int:
        return 2 * channels

    def observe(self, images: Tensor, u: Tensor) -> Tensor:
        return images

    def typical(self, images: Tensor) -> Tensor:
        return images

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        mean, log_scale = parameters.chunk(2, dim=-3)
        log_scale = log_scale.clamp(self.min_log_scale, MAX_LOG_SCALE)
        above = (x - mean + HALF_LEVEL) * (-log_scale).exp()  # ends of the pixel's interval, in scales
        below = (x - mean - HALF_LEVEL) * (-log_scale).exp()
        # ln(sigmoid(a) - sigmoid(b)) = ln sigmoid(a) + ln sigmoid(-b) + ln(1 - exp(b - a))
        width = 2 * HALF_LEVEL * (-log_scale).exp()
        inside = logsigmoid(above) - softplus(below) + (-torch.expm1(-width)).log()
        ends = torch.where(x < -1 + HALF_LEVEL, logsigmoid(above), -softplus(below))
        return torch.where(x.abs() > 1 - HALF_LEVEL, ends, inside).sum(dim=(-3, -2, -1))

    def mean(self, parameters: Tensor) -> Tensor:
        return parameters.chunk(2, dim=-3)[0].clamp(-1, 1)


class Gaussian(Likelihood):
    """Normal pixels with one learned standard deviation (Rybkin et al. 2021, sigma-VAE, arXiv:2006.13202).

    The decoder gives means. The 256 values are spread evenly over their intervals; the density, times the width of one, bounds
    their probability from below (Theis et al. 2015, arXiv:1511.01844, section 3.1).
    """

    def __init__(self) -> None:
        super().__init__()
        self.scaled_log_std = nn.Parameter(torch.zeros(()))

    @property
    def log_std(self) -> Tensor:
        """Logarithm of the standard deviation; it moves LOG_STD_GAIN times as fast as a weight."""
        return LOG_STD_GAIN * self.scaled_log_std.float()

    def num_parameters(self, channels: int) -> int:
        return channels

    def observe(self, images: Tensor, u: Tensor) -> Tensor:
        return images + (2 * u - 1) * HALF_LEVEL

    def typical(self, images: Tensor) -> Tensor:
        return images

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        log_std = self.log_std
        log_width = math.log(2 * HALF_LEVEL)
        squares = (x - parameters).square() * (-2 * log_std).exp()
        return (log_width - log_std - 0.5 * (squares + math.log(2 * math.pi))).sum(dim=(-3, -2, -1))

    def mean(self, parameters: Tensor) -> Tensor:
        return parameters.clamp(-1, 1)


def content_uniform(images: Tensor) -> Tensor:
    """Uniform numbers of the shape of images (N, C, H, W), each image's a function of its content alone."""
    seeds = [zlib.crc32(image.numpy().tobytes()) for image in images.float().cpu()]
    return seeded_uniform(seeds, images.shape[1:], images.device)
