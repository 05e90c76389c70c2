"""Noise schedules of samplers: `steps` decreasing noise levels and a final 0, (steps + 1,) float64 on the CPU."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Schedule = Callable[[int, float, float], Tensor]


def karras(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Tensor:
    """sigma^(1 / rho) in equal steps (EDM, equation 5)."""
    u = zero_to_one(steps)
    return append_zero((sigma_max ** (1 / rho) + u * (sigma_min ** (1 / rho) - sigma_max ** (1 / rho))) ** rho)


def linear(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """sigma in equal steps."""
    return append_zero(sigma_max + zero_to_one(steps) * (sigma_min - sigma_max))


def exponential(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """ln sigma in equal steps, as in DPM-Solver."""
    return append_zero((math.log(sigma_max) + zero_to_one(steps) * (math.log(sigma_min) - math.log(sigma_max))).exp())


def cosine(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """arctan sigma in equal steps. With alpha = cos, sigma / alpha = tan (Nichol & Dhariwal 2021, arXiv:2102.09672)."""
    high, low = math.atan(sigma_max), math.atan(sigma_min)
    return append_zero((high + zero_to_one(steps) * (low - high)).tan())


def flow(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """The time t = sigma / (1 + sigma) of rectified flow in equal steps that end at t = 0; `sigma_min` is not used."""
    start = sigma_max / (1 + sigma_max)
    t = start * (1 - torch.arange(steps, dtype=torch.float64) / steps)
    return append_zero(t / (1 - t))


SCHEDULES: dict[str, Schedule] = {
    "karras": karras,
    "linear": linear,
    "exponential": exponential,
    "cosine": cosine,
    "flow": flow,
}


def zero_to_one(steps: int) -> Tensor:
    """`steps` equally spaced numbers from 0 to 1; 0 for one step."""
    return torch.linspace(0, 1, steps, dtype=torch.float64)


def append_zero(sigmas: Tensor) -> Tensor:
    """Append the last noise level, 0."""
    return torch.cat([sigmas, sigmas.new_zeros(1)])
