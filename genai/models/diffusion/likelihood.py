"""Exact likelihood by the probability-flow ODE (Song et al. 2020, arXiv:2011.13456, section 4.3 and appendix D.2)."""

import math
from itertools import pairwise

import torch
from torch import Tensor

from genai.models.diffusion.preconditioning import rows
from genai.models.diffusion.samplers import Denoise

LEVELS_PER_UNIT = 127.5  # of uint8 pixels in [-1, 1]


def log_density(denoise: Denoise, x: Tensor, sigmas: Tensor, probe: Tensor) -> Tensor:
    """ln p(x) in nats, summed over pixels: (N,) float64.

    Along dx/dsigma = f(x, sigma), ln p changes by -div f, so the density of x at the lowest level is that of the normal
    distribution at the highest, plus the integral of div f. Heun's method on the given levels; the divergence is
    Hutchinson's estimate probe^T (df/dx) probe, exact on average.

    Args:
        denoise: (x, sigma) -> denoised; differentiable.
        x: images (N, C, H, W) at the lowest level, whose noise they are taken to have.
        sigmas: rising levels (K,), the last one so high that nothing of the images is left.
        probe: (N, C, H, W) of 1 and -1.
    """
    integral = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    levels = sigmas.tolist()
    slope, divergence = slope_and_divergence(denoise, x, levels[0], probe)
    for low, high in pairwise(levels):
        step = high - low
        ahead, ahead_divergence = slope_and_divergence(denoise, x + step * slope, high, probe)
        x = x + step * (slope + ahead) / 2
        integral = integral + step * (divergence + ahead_divergence) / 2
        slope, divergence = slope_and_divergence(denoise, x, high, probe)
    variance = levels[-1] ** 2
    prior = -0.5 * (x.double().square() / variance + math.log(2 * math.pi * variance)).flatten(1).sum(dim=1)
    return prior + integral


def slope_and_divergence(denoise: Denoise, x: Tensor, sigma: float, probe: Tensor) -> tuple[Tensor, Tensor]:
    """f = (x - D(x; sigma)) / sigma, (N, C, H, W), and probe^T (df/dx) probe, (N,) float64."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        levels = torch.full((len(x),), sigma, dtype=x.dtype, device=x.device)
        f = (x - denoise(x, levels)) / rows(levels)
        (vjp,) = torch.autograd.grad((f * probe).sum(), x)
    return f.detach(), (vjp * probe).double().flatten(1).sum(dim=1)


def bits_per_dim(log_densities: Tensor, num_pixels: int) -> Tensor:
    """Of uint8 images, from the densities of their dequantised values: (N,) -> (N,), an upper bound on average.

    A pixel's 256 values lie 1 / 127.5 apart in [-1, 1] (Theis et al. 2015, arXiv:1511.01844, section 3.1).
    """
    return -log_densities / (num_pixels * math.log(2)) + math.log2(LEVELS_PER_UNIT)
