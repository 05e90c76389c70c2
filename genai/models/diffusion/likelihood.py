"""Likelihood by the probability-flow ODE (Song et al. 2020, arXiv:2011.13456, section 4.3 and appendix D.2)."""

import math
from itertools import pairwise

import torch
from torch import Tensor

from genai.models.diffusion.preconditioning import Denoise, append_dims

LEVELS_PER_UNIT = 127.5  # of uint8 pixels in [-1, 1]


def log_density(denoise: Denoise, x: Tensor, sigmas: Tensor, probe: Tensor) -> Tensor:
    """ln p(x) in nats, summed over pixels: (N,) float64.

    Along dx/dsigma = f(x, sigma), d ln p / dsigma = -div f. So the log-density of x at the lowest level is that of the normal
    distribution at the highest, plus the integral of div f. The solver is Heun's method on the given levels; the divergence is
    Hutchinson's estimate probe^T (df/dx) probe, which is unbiased.

    Args:
        denoise: D, differentiable.
        x: images (N, C, H, W) with noise of the lowest level.
        sigmas: increasing noise levels (K,), the last one so high that x is noise only.
        probe: (N, C, H, W) of random signs, 1 and -1.
    """
    integral = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    levels = sigmas.tolist()
    for sigma, sigma_next in pairwise(levels):
        step = sigma_next - sigma
        slope, divergence = slope_and_divergence(denoise, x, sigma, probe)
        slope_next, divergence_next = slope_and_divergence(denoise, x + step * slope, sigma_next, probe)
        x = x + step * (slope + slope_next) / 2
        integral = integral + step * (divergence + divergence_next) / 2
    variance = levels[-1] ** 2
    prior = -0.5 * (x.double().square() / variance + math.log(2 * math.pi * variance)).flatten(1).sum(dim=1)
    return prior + integral


def slope_and_divergence(denoise: Denoise, x: Tensor, sigma: float, probe: Tensor) -> tuple[Tensor, Tensor]:
    """f = (x - D(x; sigma)) / sigma, (N, C, H, W), and probe^T (df/dx) probe, (N,) float64."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        levels = torch.full((len(x),), sigma, dtype=x.dtype, device=x.device)
        f = (x - denoise(x, levels)) / append_dims(levels)
        (vjp,) = torch.autograd.grad((f * probe).sum(), x)
    return f.detach(), (vjp * probe).double().flatten(1).sum(dim=1)


def dequantise(images: Tensor, u: Tensor) -> Tensor:
    """Images of 256 values per pixel (N, C, H, W) in [-1, 1], plus uniform noise as wide as one value, from u in (0, 1)."""
    return images + (u - 0.5) / LEVELS_PER_UNIT


def log_prob_of_8_bits(log_densities: Tensor, num_dims: int) -> Tensor:
    """Lower bound (N,) of ln p of 8-bit images from the log-densities (N,) of their dequantised values.

    The values of a pixel lie 1 / 127.5 apart (Theis et al. 2015, arXiv:1511.01844, section 3.1).
    """
    return log_densities - num_dims * math.log(LEVELS_PER_UNIT)
