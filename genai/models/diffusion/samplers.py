"""From noise to images. A sampler is a pure function of (denoise, x, sigmas, noise); a new one is one function and its name.

denoise(x, sigma): noisy images (N, C, H, W) and one noise level each (N,) -> denoised images.
x: images with noise of standard deviation sigmas[0].
sigmas: decreasing noise levels, the last one 0.
noise(): fresh normal noise like x, for samplers that need it.

The probability-flow ODE is dx/dsigma = (x - D(x; sigma)) / sigma (Karras et al. 2022, EDM, arXiv:2206.00364, equation 3 with
s = 1 and sigma(t) = t). Multistep solvers take the logarithmic variable lambda = -ln sigma.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from genai.errors import UserError
from genai.models.diffusion.preconditioning import rows

Denoise = Callable[[Tensor, Tensor], Tensor]
Noise = Callable[[], Tensor]


class Sampler(Protocol):
    """A sampler; further arguments have defaults."""

    def __call__(self, denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
        """Noisy images (N, C, H, W) -> images (N, C, H, W)."""


def euler(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """Euler's method, one evaluation a step."""
    for sigma, below in pairs(sigmas):
        x = x + (below - sigma) * slope(denoise, x, sigma)
    return x


def heun(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise, churn: float = 0.0) -> Tensor:
    """Heun's method with churn: EDM, algorithms 1 and 2; two evaluations a step, one in the last.

    Args:
        denoise, x, sigmas, noise: see the module.
        churn: S_churn, how much noise is added and removed again in all; 0 is deterministic.
    """
    gamma = min(churn / (len(sigmas) - 1), math.sqrt(2) - 1)
    for sigma, below in pairs(sigmas):
        if gamma:
            raised = sigma * (1 + gamma)
            x, sigma = x + math.sqrt(raised**2 - sigma**2) * noise(), raised
        d = slope(denoise, x, sigma)
        euler_x = x + (below - sigma) * d
        if below:
            d = (d + slope(denoise, euler_x, below)) / 2
        x = x + (below - sigma) * d
    return x


def ddpm(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """Ancestral sampling (Ho et al. 2020, arXiv:2006.11239, equations 6 and 7): DDIM with eta = 1."""
    return ddim(denoise, x, sigmas, noise, eta=1.0)


def ddim(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise, eta: float = 0.0) -> Tensor:
    """DDIM (Song et al. 2020, arXiv:2010.02502, equations 12 and 16), in sigma: for eta = 0 it is Euler's method.

    Args:
        denoise, x, sigmas, noise: see the module.
        eta: share of the noise that is new; 1 is ancestral sampling.
    """
    for sigma, below in pairs(sigmas):
        fresh = eta * below * math.sqrt(max(0.0, 1 - (below / sigma) ** 2))
        kept = math.sqrt(max(0.0, below**2 - fresh**2))
        denoised = denoise(x, level(x, sigma))
        x = denoised + kept / sigma * (x - denoised)
        if fresh:
            x = x + fresh * noise()
    return x


def consistency(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """Denoise, add fresh noise of the next level, denoise again (Song et al. 2023, arXiv:2303.01469, algorithm 1)."""
    for sigma, below in pairs(sigmas):
        x = denoise(x, level(x, sigma))
        if below:
            x = x + below * noise()
    return x


def dpmpp(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv:2211.01095, algorithm 2), one evaluation a step, of second order."""
    previous: Tensor | None = None
    h_previous = 0.0
    for sigma, below in pairs(sigmas):
        denoised = denoise(x, level(x, sigma))
        target = denoised
        if below:
            h = math.log(sigma / below)
            if previous is not None:
                r = h_previous / h
                target = denoised + (denoised - previous) / (2 * r)
            h_previous = h
        x = below / sigma * x + (1 - below / sigma) * target
        previous = denoised
    return x


def unipc(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise, order: int = 2) -> Tensor:
    """UniPC (Zhao et al. 2023, arXiv:2302.04867) on denoised images, one evaluation a step.

    A multistep predictor, and a corrector that uses the evaluation at the predicted point for the step that led there. The
    weights solve the paper's system for every order, also the second, so its B(h) cancels.

    Args:
        denoise, x, sigmas, noise: see the module.
        order: of the predictor, lower in the first steps and the last; 3 is unstable in steps as long as ten make them.
    """
    history: list[tuple[float, Tensor]] = []  # (lambda, denoised), the latest last
    denoised = denoise(x, level(x, float(sigmas[0])))
    for i, (sigma, below) in enumerate(pairs(sigmas)):
        history = [*history, (-math.log(sigma), denoised)][-order:]
        if not below:
            return denoised
        steps_left = len(sigmas) - 1 - i
        p = min(order, len(history), steps_left)
        predicted = unipc_step(x, history[-p:], sigma, below, None)
        denoised = denoise(predicted, level(x, below))
        x = unipc_step(x, history[-p:], sigma, below, denoised)
    return x


def unipc_step(x: Tensor, history: list[tuple[float, Tensor]], sigma: float, below: float, corrected: Tensor | None) -> Tensor:
    """One step of UniP, or with the denoised image `corrected` of its end, of UniC.

    The integral of e^lambda D from one level to the next, D interpolated through the points of `history` (and `corrected`).
    """
    start, current = history[-1]
    h = -math.log(below) - start
    points = [((lam - start) / h, d - current) for lam, d in history[:-1]]
    if corrected is not None:
        points.append((1.0, corrected - current))
    x = below / sigma * x + (1 - below / sigma) * current
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


def adaptive(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise, tolerance: float = 0.01, most: int = 1000) -> Tensor:
    """Heun's method with steps as long as its distance to Euler's allows, for each image by itself, down to the last level.

    Step control as in Jolicoeur-Martineau et al. 2021 (arXiv:2105.14080), algorithm 1, for the ODE. Of `sigmas` it uses the
    first and the last but one; from there it takes the denoised image.

    Args:
        denoise, x, sigmas, noise: see the module.
        tolerance: of the mean squared error of a step, as a share of 1 or of the image's values, whichever is greater.
        most: tries before it is given up.

    Raises:
        UserError: more steps than `most`.
    """
    sigma = torch.full((len(x),), float(sigmas[0]), dtype=torch.float64, device=x.device)
    last = float(sigmas[-2])
    ratio = torch.full_like(sigma, 0.9)  # of the next level to this one
    for _ in range(most):
        if bool((sigma <= last).all()):
            return denoise(x, sigma.to(x.dtype))
        below = (sigma * ratio).clamp(min=last)
        step = rows((below - sigma).to(x.dtype))
        d = slope_rows(denoise, x, sigma)
        euler_x = x + step * d
        heun_x = x + step * (d + slope_rows(denoise, euler_x, below)) / 2
        scale = tolerance * torch.maximum(heun_x.abs(), x.abs()).clamp(min=1.0)
        error = ((heun_x - euler_x) / scale).square().mean(dim=(1, 2, 3)).sqrt().double()
        accepted = (error <= 1) & (sigma > last)
        x = torch.where(rows(accepted), heun_x, x)
        sigma = torch.where(accepted, below, sigma)
        grown = (1 - ratio) * (0.9 * error.clamp(min=1e-6) ** -0.5).clamp(0.2, 4.0)
        ratio = (1 - grown).clamp(0.2, 0.999)
    raise UserError(f"the adaptive sampler needs more than {most} steps: raise its tolerance, or choose another sampler")


SAMPLERS: dict[str, Sampler] = {
    "euler": euler,
    "heun": heun,
    "ddpm": ddpm,
    "ddim": ddim,
    "dpmpp": dpmpp,
    "unipc": unipc,
    "adaptive": adaptive,
    "consistency": consistency,
}


def pairs(sigmas: Tensor) -> list[tuple[float, float]]:
    """(sigma_i, sigma_i+1) of every step."""
    return list(pairwise(sigmas.tolist()))


def level(x: Tensor, sigma: float) -> Tensor:
    """sigma for each image: (N,)."""
    return torch.full((len(x),), sigma, dtype=x.dtype, device=x.device)


def slope(denoise: Denoise, x: Tensor, sigma: float) -> Tensor:
    """dx/dsigma at one noise level."""
    return (x - denoise(x, level(x, sigma))) / sigma


def slope_rows(denoise: Denoise, x: Tensor, sigma: Tensor) -> Tensor:
    """dx/dsigma, each image at its own noise level (N,)."""
    return (x - denoise(x, sigma.to(x.dtype))) / rows(sigma.to(x.dtype))
