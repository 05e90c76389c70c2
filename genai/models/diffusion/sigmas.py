"""Sequences of noise levels for samplers: `steps` decreasing levels and a final 0, float64 on the CPU."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Schedule = Callable[[int, float, float], Tensor]


def karras(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Tensor:
    """sigma^(1 / rho) in equal steps: (steps + 1,) (EDM, equation 5)."""
    ramp = unit(steps)
    return finish((sigma_max ** (1 / rho) + ramp * (sigma_min ** (1 / rho) - sigma_max ** (1 / rho))) ** rho)


def linear(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """sigma in equal steps: (steps + 1,)."""
    return finish(sigma_max + unit(steps) * (sigma_min - sigma_max))


def exponential(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """ln sigma in equal steps: (steps + 1,), as DPM-Solver takes them."""
    return finish((math.log(sigma_max) + unit(steps) * (math.log(sigma_min) - math.log(sigma_max))).exp())


def cosine(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """arctan sigma in equal steps: (steps + 1,). With alpha = cos, sigma / alpha = tan (Nichol & Dhariwal 2021)."""
    high, low = math.atan(sigma_max), math.atan(sigma_min)
    return finish((high + unit(steps) * (low - high)).tan())


def flow(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Rectified flow's time t = sigma / (1 + sigma) in equal steps that would end at t = 0: (steps + 1,)."""
    start = sigma_max / (1 + sigma_max)
    t = start * (1 - torch.arange(steps, dtype=torch.float64) / steps)
    return finish(t / (1 - t))


SCHEDULES: dict[str, Schedule] = {
    "karras": karras,
    "linear": linear,
    "exponential": exponential,
    "cosine": cosine,
    "flow": flow,
}


def unit(steps: int) -> Tensor:
    """`steps` numbers from 0 to 1; for one step 0."""
    return torch.linspace(0, 1, steps, dtype=torch.float64)


def finish(sigmas: Tensor) -> Tensor:
    """Append 0."""
    return torch.cat([sigmas, sigmas.new_zeros(1)])
