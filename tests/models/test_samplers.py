"""Samplers against Gaussian data, whose optimal denoiser and exact trajectories are known."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from genai.errors import UserError
from genai.models.diffusion import sigmas as schedules
from genai.models.diffusion.guidance import guided
from genai.models.diffusion.preconditioning import append_dims
from genai.models.diffusion.samplers import SAMPLERS, adaptive, ddim, ddpm, dpmpp, euler, heun, unipc
from genai.models.seeds import SeededRandom

MEAN, STD = 0.3, 0.5


def gaussian(x: Tensor, sigma: Tensor) -> Tensor:
    """The optimal denoiser of independent N(MEAN, STD^2) pixels."""
    s = append_dims(sigma.to(x.dtype))
    return (STD**2 * x + s**2 * MEAN) / (STD**2 + s**2)


def exact(x: Tensor, start: float, end: float) -> Tensor:
    """Where the probability-flow ODE leads from x at noise `start`."""
    return MEAN + (x - MEAN) * math.sqrt((STD**2 + end**2) / (STD**2 + start**2))


def no_noise() -> Tensor:
    raise AssertionError("a deterministic sampler asked for noise")


def start(n: int = 4, sigma: float = 10.0) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return MEAN + sigma * torch.randn(n, 1, 2, 2, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("sampler", "order"), [(euler, 1), (ddim, 1), (heun, 2), (dpmpp, 2), (unipc, 3)])
def test_errors_shrink_with_the_order_of_the_solver(sampler, order: int) -> None:
    x = start()
    steps = np.array([16, 32, 64, 128])
    errors = []
    for n in steps:
        levels = torch.linspace(math.log(10.0), math.log(0.1), n + 1, dtype=torch.float64).exp()
        errors.append(float((sampler(gaussian, x, levels, no_noise) - exact(x, 10.0, 0.1)).abs().max()))
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope > order - 0.25
    assert slope < order + 0.6 or sampler is unipc


@pytest.mark.parametrize("name", ["euler", "heun", "ddim", "dpmpp", "unipc", "adaptive"])
def test_deterministic_samplers_reproduce_the_gaussian(name: str) -> None:
    x = MEAN + 80 * torch.randn(4000, 1, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    images = SAMPLERS[name](gaussian, x, schedules.karras(200, 0.002, 80.0), no_noise)
    assert abs(float(images.mean()) - MEAN) < 0.02
    assert abs(float(images.std()) - STD) < 0.02


@pytest.mark.parametrize("sampler", [ddpm, lambda *a: heun(*a, churn=20.0), lambda *a: ddim(*a, eta=0.5)])
def test_stochastic_samplers_reproduce_the_gaussian(sampler) -> None:
    generator = torch.Generator().manual_seed(2)
    shape = (4000, 1, 2, 2)

    def noise() -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    images = sampler(gaussian, 80 * noise(), schedules.karras(200, 0.002, 80.0), noise)
    assert abs(float(images.mean()) - MEAN) < 0.02
    assert abs(float(images.std()) - STD) < 0.02


def test_ddim_is_euler_in_sigma() -> None:
    x, levels = start(), schedules.karras(7, 0.002, 10.0)
    torch.testing.assert_close(ddim(gaussian, x, levels, no_noise), euler(gaussian, x, levels, no_noise))


def test_adaptive_steps_do_not_depend_on_the_other_images() -> None:
    x, levels = start(3), schedules.karras(10, 0.002, 10.0)
    together = adaptive(gaussian, x, levels, no_noise)
    alone = torch.cat([adaptive(gaussian, row[None], levels, no_noise) for row in x])
    torch.testing.assert_close(together, alone, rtol=0, atol=0)


def test_an_adaptive_sampler_gives_up_in_words() -> None:
    with pytest.raises(UserError, match="tolerance"):
        adaptive(gaussian, start(), schedules.karras(10, 0.002, 10.0), no_noise, tolerance=1e-9, max_steps=20)


@pytest.mark.parametrize("name", schedules.SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 18])
def test_schedules_fall_from_the_first_level_to_nothing(name: str, steps: int) -> None:
    levels = schedules.SCHEDULES[name](steps, 0.002, 80.0)
    assert levels.shape == (steps + 1,)
    assert levels[0].item() == pytest.approx(80.0)
    assert levels[-1] == 0
    assert bool((levels.diff() < 0).all())


def test_flow_time_falls_in_equal_steps() -> None:
    levels = schedules.flow(5, 0.002, 80.0)
    t = levels / (1 + levels)
    torch.testing.assert_close(t.diff(), t.diff()[:1].expand(5))


def test_guidance_of_one_is_the_denoiser_itself() -> None:
    assert guided(gaussian, no_noise, 1.0) is gaussian


def test_guidance_moves_away_from_the_weaker_model_within_its_interval() -> None:
    def guiding_model(x: Tensor, sigma: Tensor) -> Tensor:
        return torch.zeros_like(x)

    def good(x: Tensor, sigma: Tensor) -> Tensor:
        return torch.ones_like(x)

    x = torch.zeros(3, 1, 1, 1)
    pushed = guided(good, guiding_model, 2.5, (0.5, 2.0))(x, torch.tensor([0.1, 1.0, 3.0]))
    assert pushed.flatten().tolist() == [1.0, 2.5, 1.0]


def test_noise_depends_on_its_seed_and_call_only() -> None:
    device = torch.device("cpu")
    all_rows = partial(SeededRandom([3, 5, 7], device).normal, (2, 2))
    one = partial(SeededRandom([5], device).normal, (2, 2))
    for _ in range(2):
        assert torch.equal(all_rows()[1], one()[0])
