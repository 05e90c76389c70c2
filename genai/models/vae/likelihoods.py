"""Likelihoods p(x|z): they map the output of a decoder to log-probabilities and to a mean image.

All are probabilities of discrete pixels, with 2 values for Bernoulli and 256 values otherwise, so bits per dimension are
well defined. To add one, subclass `Likelihood`.
"""

import math
import zlib
from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid, softplus

from genai.models.seeds import seeded_uniform

LOG_STD_GAIN = 20.0  # Adam changes a parameter by about its learning rate per step: too slow from 1 to 0.05
MIN_LOG_SCALE = -7.0
MAX_LOG_SCALE = 5.0  # a logistic distribution of this scale is flat over all pixel values
HALF_LEVEL = 1 / 255  # half the distance between neighbouring values of uint8 pixels in [-1, 1]
Binarisation = Literal["dynamic", "static"]


class Likelihood(nn.Module):
    """p(x|z), a product over pixels.

    `pixels` names the kind of pixels that the probability is of.
    """

    pixels: str

    @abstractmethod
    def num_parameters(self, channels: int) -> int:
        """P, the number of channels that the decoder outputs for images of `channels` channels."""

    @abstractmethod
    def observe(self, images: Tensor, u: Tensor) -> Tensor:
        """The observed x of images, binarised or dequantised if the likelihood needs it.

        Args:
            images: (N, C, H, W) in [-1, 1].
            u: uniform numbers of the same shape in [0, 1).

        Returns:
            (N, C, H, W), about in [-1, 1].
        """

    @abstractmethod
    def mode(self, images: Tensor) -> Tensor:
        """The most likely x of images (N, C, H, W) in [-1, 1], for a deterministic encoding."""

    @abstractmethod
    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        """ln p(x|z) in nats, summed over pixels and channels: parameters (..., N, P, H, W), x (N, C, H, W) -> (..., N)."""

    @abstractmethod
    def mean(self, parameters: Tensor) -> Tensor:
        """Parameters (N, P, H, W) -> mean of p(x|z), (N, C, H, W) in [-1, 1]."""


class Bernoulli(Likelihood):
    """Black or white pixels; the decoder outputs logits.

    Grey pixels are binarised: the brightness of a pixel is its probability of white.

    Args:
        binarisation: `dynamic` samples the pixels anew at each use (Salakhutdinov & Murray 2008); `static` always samples
            the same pixels for the same image.
    """

    pixels = "binarised pixels"

    def __init__(self, binarisation: Binarisation = "dynamic") -> None:
        super().__init__()
        self.binarisation = binarisation

    def num_parameters(self, channels: int) -> int:
        return channels

    def observe(self, images: Tensor, u: Tensor) -> Tensor:
        """x with values -1 and 1."""
        u = u if self.binarisation == "dynamic" else content_uniform(images)
        return 2 * (u < (images + 1) / 2).float() - 1

    def mode(self, images: Tensor) -> Tensor:
        """White where the brightness is above one half."""
        return 2 * (images > 0).float() - 1

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        targets = ((x + 1) / 2).expand_as(parameters)
        return -binary_cross_entropy_with_logits(parameters, targets, reduction="none").sum(dim=(-3, -2, -1))

    def mean(self, parameters: Tensor) -> Tensor:
        return 2 * parameters.sigmoid() - 1


class DiscretisedLogistic(Likelihood):
    """8-bit pixels: a logistic distribution, discretised to 256 values (Kingma et al. 2016, arXiv:1606.04934, section 5.2).

    The lowest and highest value get the tails. The decoder outputs means and log-scales.
    """

    pixels = "8-bit pixels"

    def num_parameters(self, channels: int) -> int:
        return 2 * channels

    def observe(self, images: Tensor, u: Tensor) -> Tensor:
        return images

    def mode(self, images: Tensor) -> Tensor:
        return images

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        mean, log_scale = parameters.chunk(2, dim=-3)
        log_scale = log_scale.clamp(MIN_LOG_SCALE, MAX_LOG_SCALE)
        upper = (x - mean + HALF_LEVEL) * (-log_scale).exp()  # upper end of the interval of the value, in units of the scale
        lower = (x - mean - HALF_LEVEL) * (-log_scale).exp()
        # ln(sigmoid(a) - sigmoid(b)) = ln sigmoid(a) + ln sigmoid(-b) + ln(1 - exp(b - a))
        width = 2 * HALF_LEVEL * (-log_scale).exp()
        inside = logsigmoid(upper) - softplus(lower) + (-torch.expm1(-width)).log()
        ends = torch.where(x < -1 + HALF_LEVEL, logsigmoid(upper), -softplus(lower))
        return torch.where(x.abs() > 1 - HALF_LEVEL, ends, inside).sum(dim=(-3, -2, -1))

    def mean(self, parameters: Tensor) -> Tensor:
        return parameters.chunk(2, dim=-3)[0].clamp(-1, 1)


class Gaussian(Likelihood):
    """8-bit pixels: a normal distribution with one learned standard deviation (Rybkin et al. 2021, arXiv:2006.13202).

    The decoder outputs means. The 256 values are dequantised with uniform noise; the density times the width of an interval
    is a lower bound on the probability of a value (Theis et al. 2015, arXiv:1511.01844, section 3.1).
    """

    pixels = "8-bit pixels"

    def __init__(self) -> None:
        super().__init__()
        self.scaled_log_std = nn.Parameter(torch.zeros(()))

    @property
    def log_std(self) -> Tensor:
        """Logarithm of the standard deviation; it changes LOG_STD_GAIN times as fast as the parameter."""
        return LOG_STD_GAIN * self.scaled_log_std.float()

    def num_parameters(self, channels: int) -> int:
        return channels

    def observe(self, images: Tensor, u: Tensor) -> Tensor:
        return images + (2 * u - 1) * HALF_LEVEL

    def mode(self, images: Tensor) -> Tensor:
        return images

    def log_prob(self, parameters: Tensor, x: Tensor) -> Tensor:
        log_std = self.log_std
        log_width = math.log(2 * HALF_LEVEL)
        squares = (x - parameters).square() * (-2 * log_std).exp()
        return (log_width - log_std - 0.5 * (squares + math.log(2 * math.pi))).sum(dim=(-3, -2, -1))

    def mean(self, parameters: Tensor) -> Tensor:
        return parameters.clamp(-1, 1)


def content_uniform(images: Tensor) -> Tensor:
    """Uniform numbers of the shape of images (N, C, H, W), seeded with the content of each image."""
    seeds = [zlib.crc32(image.numpy().tobytes()) for image in images.float().cpu()]
    return seeded_uniform(seeds, images.shape[1:], images.device)
