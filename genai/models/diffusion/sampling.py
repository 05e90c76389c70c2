"""How a diffusion model samples: the sampler with its options, the noise levels, the guidance."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from genai.errors import UserError, check_at_least
from genai.models.diffusion.guidance import EVERYWHERE, Interval
from genai.models.diffusion.preconditioning import Denoise
from genai.models.diffusion.samplers import SAMPLERS, Noise, parse_options
from genai.models.diffusion.sigmas import SCHEDULES


@dataclass(frozen=True)
class Sampling:
    """Settings of `Diffusion.sample`.

    Args:
        sampler: one of SAMPLERS: euler, heun, ddpm, ddim, dpmpp, unipc, adaptive, consistency.
        steps: number of steps; heun evaluates the network twice in each, the others once.
        schedule: noise schedule, one of SCHEDULES: karras, linear, exponential, cosine, flow.
        sigma_min: lowest nonzero noise level.
        sigma_max: highest noise level.
        guidance_scale: of classifier-free guidance, or of autoguidance with a `guiding_model`; 1 is no guidance.
        guidance_interval: lowest and highest noise level with guidance.
        bfloat16: compute the network in bfloat16 (autocast), about twice as fast; the sampler stays in float32. Ignored on x86
            processors without bfloat16 instructions, where it would be slower.
        sampler_options: keyword arguments of the sampler, such as {churn: 20} of heun.

    Raises:
        UserError: there is no such sampler, schedule or option, less than 1 step, or the noise levels are out of range.
    """

    sampler: str = "dpmpp"
    steps: int = 10
    schedule: str = "karras"
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    guidance_scale: float = 1.0
    guidance_interval: Interval = EVERYWHERE
    bfloat16: bool = False
    sampler_options: dict[str, int | float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for value, known, what in ((self.sampler, SAMPLERS, "sampler"), (self.schedule, SCHEDULES, "schedule")):
            if value not in known:
                raise UserError(f"there is no {what} {value!r}: choose from {', '.join(known)}")
        check_at_least("steps", self.steps, 1)
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise UserError(f"sigma_min {self.sigma_min} and sigma_max {self.sigma_max}: use 0 < sigma_min < sigma_max")
        parse_options(self.sampler, self.sampler_options)

    def override(self, **settings: Any) -> "Sampling":
        """A copy with other settings. The options of a sampler are kept, and merged, unless the sampler changes."""
        changed = settings.get("sampler", self.sampler) != self.sampler
        options = settings.pop("sampler_options", {})
        return replace(self, **settings, sampler_options=options if changed else self.sampler_options | options)

    def sigmas(self) -> Tensor:
        """The noise levels: (steps + 1,), decreasing, the last one 0."""
        return SCHEDULES[self.schedule](self.steps, self.sigma_min, self.sigma_max)

    def run_sampler(self, denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise) -> Tensor:
        """Run the sampler with its options from x, noisy images (N, C, H, W) of level sigmas[0]."""
        return SAMPLERS[self.sampler](denoise, x, sigmas, noise, **parse_options(self.sampler, self.sampler_options))

    def adds_noise(self) -> bool:
        """Whether the sampler adds noise in its steps, so that the initial noise cannot be found again in an image."""
        calls: list[Tensor] = []

        def noise() -> Tensor:
            calls.append(torch.zeros(1, 1, 1, 1))
            return calls[-1]

        self.run_sampler(lambda x, sigma: x, torch.zeros(1, 1, 1, 1), self.sigmas(), noise)
        return bool(calls)
