"""Samplers, from noise to images: pure functions of (denoise, x, sigmas, noise), whose keyword arguments are their options.

    denoise(x, sigma): noisy images (N, C, H, W) and their noise levels (N,) -> denoised images (N, C, H, W).
    x: (N, C, H, W), images with noise of standard deviation sigmas[0].
    sigmas: decreasing noise levels; the last one is 0.
    noise(): new standard normal noise (N, C, H, W), for stochastic samplers.

The probability-flow ODE is dx/dsigma = (x - D(x; sigma)) / sigma (Karras et al. 2022, EDM, arXiv:2206.00364, equation 3 with
s = 1 and sigma(t) = t). Multistep solvers use the logarithmic variable lambda = -ln sigma.

To add a sampler, write the function here and decorate it with `@sampler`. `Sampling.sampler` and `--sampler` then accept its
name, and `Sampling.sampler_options` and `--sampler-option` accept its keyword-only arguments, whose type is float or int.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from genai.errors import UserError
from genai.models.diffusion.preconditioning import Denoise, append_dims

Noise = Callable[[], Tensor]
Sampler = Callable[..., Tensor]  # (denoise, x, sigmas, noise, *, options) -> images (N, C, H, W)
SAMPLERS: dict[str, Sampler] = {}


def sampler(function: Sampler) -> Sampler:
    """Register a sampler under its name."""
    SAMPLERS[function.__name__] = function
    return function


@sampler
def euler(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """Euler's method: first order, one evaluation of the network per step."""
    for sigma, sigma_next in pairwise(sigmas.tolist()):
        x = x + (sigma_next - sigma) * slope(denoise, x, sigma)
    return x


@sampler
def heun(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise, *, churn: float = 0.0) -> Tensor:
    """Heun's method (EDM, algorithms 1 and 2): second order, two evaluations per step, one in the last step.

    Args:
        denoise, x, sigmas, noise: see the module.
        churn: S_churn, the amount of noise added in all; 0 is deterministic.
    """
    gamma = min(churn / (len(sigmas) - 1), math.sqrt(2) - 1)
    for sigma, sigma_next in pairwise(sigmas.tolist()):
        if gamma:
            sigma_hat = sigma * (1 + gamma)
            x, sigma = x + math.sqrt(sigma_hat**2 - sigma**2) * noise(), sigma_hat
        d = slope(denoise, x, sigma)
        x_euler = x + (sigma_next - sigma) * d
        if sigma_next:
            d = (d + slope(denoise, x_euler, sigma_next)) / 2
        x = x + (sigma_next - sigma) * d
    return x


@sampler
def ddpm(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """Ancestral sampling (Ho et al. 2020, arXiv:2006.11239, equations 6 and 7): DDIM with eta = 1."""
    return ddim(denoise, x, sigmas, noise, eta=1.0)


@sampler
def ddim(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise, *, eta: float = 0.0) -> Tensor:
    """DDIM (Song et al. 2020, arXiv:2010.02502, equations 12 and 16), in sigma; with eta = 0 it is Euler's method.

    Args:
        denoise, x, sigmas, noise: see the module.
        eta: share of new noise; 0 is deterministic, 1 is ancestral sampling.
    """
    if eta > 1:
        raise UserError(f"sampler ddim cannot have eta {eta:g}: use 0 to 1")
    for sigma, sigma_next in pairwise(sigmas.tolist()):
        sigma_up = eta * sigma_next * math.sqrt(max(0.0, 1 - (sigma_next / sigma) ** 2))
        sigma_down = math.sqrt(max(0.0, sigma_next**2 - sigma_up**2))
        denoised = denoise(x, expand(sigma, x))
        x = denoised + sigma_down / sigma * (x - denoised)
        if sigma_up:
            x = x + sigma_up * noise()
    return x


@sampler
def dpmpp(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv:2211.01095, algorithm 2): second order, one evaluation per step."""
    denoised_previous: Tensor | None = None
    h_previous = 0.0
    for sigma, sigma_next in pairwise(sigmas.tolist()):
        denoised = denoise(x, expand(sigma, x))
        target = denoised
        if sigma_next:
            h = math.log(sigma / sigma_next)
            if denoised_previous is not None:
                r = h_previous / h
                target = denoised + (denoised - denoised_previous) / (2 * r)
            h_previous = h
        x = sigma_next / sigma * x + (1 - sigma_next / sigma) * target
        denoised_previous = denoised
    return x


@sampler
def unipc(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise, *, order: int = 2) -> Tensor:
    """UniPC (Zhao et al. 2023, arXiv:2302.04867) with data prediction, one evaluation per step.

    A multistep predictor, and a corrector that uses the evaluation at the predicted point. The weights solve the paper's linear
    system for every order, the second included, so that its B(h) cancels.

    Args:
        denoise, x, sigmas, noise: see the module.
        order: order of the predictor, lower in the first and last steps; 3 is unstable with as few as ten steps.
    """
    if order < 1:
        raise UserError(f"sampler unipc cannot have order {order}: use 1 or more")
    history: list[tuple[float, Tensor]] = []  # (lambda, denoised), the latest last
    denoised = denoise(x, expand(float(sigmas[0]), x))
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        history = [*history, (-math.log(sigma), denoised)][-order:]
        if not sigma_next:
            return denoised
        steps_left = len(sigmas) - 1 - i
        p = min(order, len(history), steps_left)
        x_predicted = unipc_step(x, history[-p:], sigma, sigma_next, None)
        denoised = denoise(x_predicted, expand(sigma_next, x))
        x = unipc_step(x, history[-p:], sigma, sigma_next, denoised)
    return x


def unipc_step(
    x: Tensor, history: list[tuple[float, Tensor]], sigma: float, sigma_next: float, denoised_next: Tensor | None
) -> Tensor:
    """One step of the predictor UniP; with `denoised_next`, the denoised image at sigma_next, of the corrector UniC.

    It integrates e^lambda D from one level to the next, with D interpolated through `history` (and `denoised_next`).
    """
    start, current = history[-1]
    h = -math.log(sigma_next) - start
    points = [((lam - start) / h, d - current) for lam, d in history[:-1]]
    if denoised_next is not None:
        points.append((1.0, denoised_next - current))
    x = sigma_next / sigma * x + (1 - sigma_next / sigma) * current
    if not points:
        return x
    # phi_k = integral over r in [0, 1] of e^{(r - 1) h} r^k h dr, for k = 1, ..., len(points)
    phis, phi = [], -math.expm1(-h)
    for k in range(1, len(points) + 1):
        phi = 1 - k * phi / h
        phis.append(phi)
    powers = torch.tensor([[r**k for r, _ in points] for k in range(1, len(points) + 1)], dtype=torch.float64)
    weights = torch.linalg.solve(powers, torch.tensor(phis, dtype=torch.float64))
    for weight, (_, difference) in zip(weights.tolist(), points, strict=True):
        x = x + weight * difference
    return x


@sampler
def adaptive(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise, *, tolerance: float = 0.01, max_steps: int = 1000
) -> Tensor:
    """Heun's method with a separate step size for each image, from the distance between Heun's and Euler's step.

    Step control as in Jolicoeur-Martineau et al. 2021 (arXiv:2105.14080), algorithm 1, for the ODE. It uses the first and the
    last nonzero level of `sigmas`; the last step denoises.

    Args:
        denoise, x, sigmas, noise: see the module.
        tolerance: root mean square error of a step, relative to 1 or to the pixel's value, whichever is larger.
        max_steps: accepted and rejected steps at most.

    Raises:
        UserError: it needs more than `max_steps`.
    """
    sigma = torch.full((len(x),), float(sigmas[0]), dtype=torch.float64, device=x.device)
    sigma_min = float(sigmas[-2])
    ratio = torch.full_like(sigma, 0.9)  # sigma_next / sigma
    for _ in range(max_steps):
        if bool((sigma <= sigma_min).all()):
            return denoise(x, sigma.to(x.dtype))
        sigma_next = (sigma * ratio).clamp(min=sigma_min)
        step = append_dims((sigma_next - sigma).to(x.dtype))
        d = (x - denoise(x, sigma.to(x.dtype))) / append_dims(sigma.to(x.dtype))
        x_euler = x + step * d
        d_next = (x_euler - denoise(x_euler, sigma_next.to(x.dtype))) / append_dims(sigma_next.to(x.dtype))
        x_heun = x + step * (d + d_next) / 2
        scale = tolerance * torch.maximum(x_heun.abs(), x.abs()).clamp(min=1.0)
        error = ((x_heun - x_euler) / scale).square().mean(dim=(1, 2, 3)).sqrt().double()
        accepted = (error <= 1) & (sigma > sigma_min)
        x = torch.where(append_dims(accepted), x_heun, x)
        sigma = torch.where(accepted, sigma_next, sigma)
        factor = (0.9 * error.clamp(min=1e-6) ** -0.5).clamp(0.2, 4.0)
        ratio = (1 - (1 - ratio) * factor).clamp(0.2, 0.999)
    raise UserError(
        f"the adaptive sampler needs more than {max_steps} steps: raise its tolerance or its max_steps, or use another sampler"
    )


@sampler
def consistency(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """Denoise, add new noise of the next level, denoise again (Song et al. 2023, arXiv:2303.01469, algorithm 1)."""
    for sigma, sigma_next in pairwise(sigmas.tolist()):
        x = denoise(x, expand(sigma, x))
        if sigma_next:
            x = x + sigma_next * noise()
    return x


def option_types(name: str) -> dict[str, type]:
    """The options of a sampler, its keyword-only arguments, with their types (float or int)."""
    parameters = inspect.signature(SAMPLERS[name]).parameters.values()
    return {p.name: p.annotation for p in parameters if p.kind is p.KEYWORD_ONLY}


def parse_options(name: str, options: Mapping[str, Any]) -> dict[str, float | int]:
    """The options of the sampler `name`, numbers or their text, converted to the types in its signature.

    Raises:
        UserError: the sampler has no such option, or a value is negative or of the wrong type.
    """
    types = option_types(name)
    parsed: dict[str, float | int] = {}
    for key, value in options.items():
        if key not in types:
            available = f"its options are {', '.join(types)}" if types else "it has no options"
            raise UserError(f"sampler {name} has no option {key!r}: {available}")
        try:
            number = float(value)
            parsed[key] = int(number) if types[key] is int else number
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not 0 <= number < math.inf or number != parsed[key]:
            kind = "a whole number, 0 or more" if types[key] is int else "a number, 0 or more"
            raise UserError(f"option {key} of sampler {name} must be {kind}, not {value!r}")
    return parsed


def expand(sigma: float, x: Tensor) -> Tensor:
    """One noise level, repeated for each image of x: (N,)."""
    return torch.full(x.shape[:1], sigma, dtype=x.dtype, device=x.device)


def slope(denoise: Denoise, x: Tensor, sigma: float) -> Tensor:
    """dx/dsigma of the probability-flow ODE at one noise level: (N, C, H, W)."""
    return (x - denoise(x, expand(sigma, x))) / sigma
