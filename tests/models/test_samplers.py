"""Samplers against Gaussian data, whose optimal denoiser and exact trajectories are known."""

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from genai.errors import UserError
from genai.models.diffusion import sigmas as schedules
from genai.models.diffusion.guidance import guided
from genai.models.diffusion.preconditioning import append_dims
from genai.models.diffusion.samplers import (
    SAMPLERS,
    adaptive,
    ddim,
    ddpm,
    dpmpp,
    euler,
    heun,
    option_types,
    parse_options,
    sampler,
    unipc,
)
from genai.models.diffusion.sampling import Sampling
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
    raise AssertionError("a deterministic sampler needs no noise")


def start(n: int = 4, sigma: float = 10.0) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return MEAN + sigma * torch.randn(n, 1, 2, 2, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("solver", "order"), [(euler, 1), (ddim, 1), (heun, 2), (dpmpp, 2), (unipc, 3)])
def test_errors_shrink_with_the_order_of_the_solver(solver, order: int) -> None:
    x = start()
    steps = np.array([16, 32, 64, 128])
    errors = []
    for n in steps:
        levels = torch.linspace(math.log(10.0), math.log(0.1), n + 1, dtype=torch.float64).exp()
        errors.append(float((solver(gaussian, x, levels, no_noise) - exact(x, 10.0, 0.1)).abs().max()))
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope > order - 0.25
    assert slope < order + 0.6 or solver is unipc


@pytest.mark.parametrize("name", ["euler", "heun", "ddim", "dpmpp", "unipc", "adaptive"])
def test_deterministic_samplers_reproduce_the_gaussian(name: str) -> None:
    x = MEAN + 80 * torch.randn(4000, 1, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    images = SAMPLERS[name](gaussian, x, schedules.karras(200, 0.002, 80.0), no_noise)
    assert abs(float(images.mean()) - MEAN) < 0.02
    assert abs(float(images.std()) - STD) < 0.02


@pytest.mark.parametrize("solver", [ddpm, lambda *a: heun(*a, churn=20.0), lambda *a: ddim(*a, eta=0.5)])
def test_stochastic_samplers_reproduce_the_gaussian(solver) -> None:
    generator = torch.Generator().manual_seed(2)
    shape = (4000, 1, 2, 2)

    def noise() -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    images = solver(gaussian, 80 * noise(), schedules.karras(200, 0.002, 80.0), noise)
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


def test_an_adaptive_sampler_that_gives_up_names_its_options() -> None:
    with pytest.raises(UserError, match="raise its tolerance or its max_steps"):
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


def test_guidance_moves_away_from_the_guiding_model_within_its_interval() -> None:
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


# -- options -------------------------------------------------------------------------------------------------------------


def test_the_options_of_a_sampler_are_its_keyword_arguments() -> None:
    types = {name: option_types(name) for name in SAMPLERS}
    assert types == {
        "euler": {},
        "heun": {"churn": float},
        "ddpm": {},
        "ddim": {"eta": float},
        "dpmpp": {},
        "unipc": {"order": int},
        "adaptive": {"tolerance": float, "max_steps": int},
        "consistency": {},
    }


def test_options_have_the_types_of_the_signature() -> None:
    parsed = parse_options("adaptive", {"tolerance": "1", "max_steps": 50.0})
    assert parsed == {"tolerance": 1.0, "max_steps": 50}
    assert [type(value) for value in parsed.values()] == [float, int]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("heun", {"eta": 1.0}, "sampler heun has no option 'eta': its options are churn"),
        ("euler", {"churn": 1.0}, "sampler euler has no option 'churn': it has no options"),
        ("adaptive", {"order": 2}, "its options are tolerance, max_steps"),
        ("unipc", {"order": 2.5}, "must be a whole number"),
        ("unipc", {"order": "two"}, "must be a whole number"),
        ("heun", {"churn": "much"}, "must be a number"),
        ("heun", {"churn": math.nan}, "must be a number"),
        ("heun", {"churn": math.inf}, "must be a number"),
        ("heun", {"churn": -1}, "must be a number, 0 or more"),
        ("adaptive", {"max_steps": math.inf}, "must be a whole number"),
    ],
)
def test_other_options_are_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Sampling(sampler=name, sampler_options=options)


@pytest.mark.parametrize(("name", "options"), [("ddim", {"eta": 1.5}), ("unipc", {"order": 0})])
def test_options_out_of_range_are_refused(name: str, options: dict[str, Any]) -> None:
    plan = Sampling(sampler=name, sampler_options=options)
    with pytest.raises(UserError, match=rf"sampler {name} cannot have {next(iter(options))}"):
        plan.run_sampler(gaussian, start(), plan.sigmas(), no_noise)


@pytest.mark.parametrize(
    ("name", "options"),
    [("unipc", {"order": 3}), ("adaptive", {"tolerance": 0.1}), ("ddim", {"eta": 0.7}), ("heun", {"churn": 9})],
)
def test_options_reach_the_sampler(name: str, options: dict[str, Any]) -> None:
    def run(plan: Sampling) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        x = start(sigma=80.0)
        return plan.run_sampler(gaussian, x, plan.sigmas(), lambda: torch.randn(x.shape, generator=generator, dtype=x.dtype))

    plain = Sampling(sampler=name)
    assert not torch.equal(run(plain), run(plain.override(sampler_options=options)))
    assert torch.equal(run(plain.override(sampler_options=options)), run(Sampling(sampler=name, sampler_options=options)))


def test_options_are_kept_for_their_own_sampler_only() -> None:
    plan = Sampling(sampler="adaptive", sampler_options={"tolerance": 0.5})
    assert plan.override(steps=3).sampler_options == {"tolerance": 0.5}
    assert plan.override(sampler_options={"max_steps": 9}).sampler_options == {"tolerance": 0.5, "max_steps": 9}
    assert plan.override(sampler="heun").sampler_options == {}
    with pytest.raises(UserError, match="its options are churn"):
        plan.override(sampler="heun", sampler_options={"tolerance": 0.5})


@pytest.mark.parametrize(
    ("name", "options", "adds_noise"),
    [
        *[(name, {}, False) for name in ("euler", "heun", "ddim", "dpmpp", "unipc", "adaptive")],
        ("heun", {"churn": 5}, True),
        ("ddim", {"eta": 0.5}, True),
        ("ddpm", {}, True),
        ("consistency", {}, True),
    ],
)
def test_samplers_that_add_noise_are_known(name: str, options: dict[str, Any], adds_noise: bool) -> None:
    assert Sampling(sampler=name, sampler_options=options).adds_noise() == adds_noise


def test_a_new_sampler_is_one_function(monkeypatch: pytest.MonkeyPatch) -> None:
    def halved(denoise: Any, x: Tensor, sigmas: Tensor, noise: Any, *, factor: float = 0.5) -> Tensor:
        return factor * denoise(x, torch.full((len(x),), float(sigmas[0])))

    monkeypatch.setitem(SAMPLERS, "halved", halved)  # removed after the test
    del SAMPLERS["halved"]
    assert sampler(halved) is halved
    plan = Sampling(sampler="halved", sampler_options={"factor": 0.25})
    x = start(sigma=80.0)
    torch.testing.assert_close(plan.run_sampler(gaussian, x, plan.sigmas(), no_noise), gaussian(x, torch.full((4,), 80.0)) / 4)
