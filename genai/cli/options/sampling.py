"""How a model that draws in steps is told to draw."""

import argparse
import math
from typing import Any

from genai.cli.options.arguments import positive
from genai.errors import UserError
from genai.models.base import ImageModel
from genai.models.capabilities import HasSampler
from genai.models.diffusion.samplers import SAMPLERS
from genai.models.diffusion.sigmas import SCHEDULES
from genai.runs import load


def add_step_options(verb: argparse.ArgumentParser) -> None:
    """The options of models that draw in steps; each is the model's own unless given."""
    verb.add_argument("--sampler", help=", ".join(SAMPLERS))
    verb.add_argument("--steps", type=positive, help="noise levels passed")
    verb.add_argument("--schedule", help=f"of the noise levels: {', '.join(SCHEDULES)}")
    verb.add_argument("--guidance", type=finite, metavar="SCALE", help="push towards what is asked; 1 is none")
    verb.add_argument("--guidance-interval", type=interval, metavar="LOW,HIGH", help="noise levels that are guided")
    verb.add_argument("--autoguidance", metavar="RUN", help="a worse model to push away from, not an unconditional one")


def finite(text: str) -> float:
    """A number, but neither infinity nor nan."""
    value = number(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number such as 2")
    return value


def interval(text: str) -> tuple[float, float]:
    """`0.2,5` -> (0.2, 5.0)."""
    low, high = (number(part) for part in text.split(",")) if text.count(",") == 1 else (math.nan, math.nan)
    if not 0 <= low <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is not two noise levels, the lower first, such as 0.2,5")
    return low, high


def number(text: str) -> float:
    """A float; nan for anything else."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def step_settings(options: argparse.Namespace, model: ImageModel) -> dict[str, Any]:
    """The options given, as `sample` takes them.

    Raises:
        UserError: the model does not draw in steps, or the options would change nothing.
    """
    given = {
        "sampler": options.sampler,
        "steps": options.steps,
        "schedule": options.schedule,
        "guidance_scale": options.guidance,
        "guidance_interval": options.guidance_interval,
        "guiding_model": options.autoguidance,
    }
    settings = {name: value for name, value in given.items() if value is not None}
    if not settings:
        return {}
    if not isinstance(model, HasSampler):
        raise UserError(f"{options.run} is a {type(model).__name__}, which draws in one step: leave --sampler and its like out")
    for option, value, known in (("--sampler", options.sampler, SAMPLERS), ("--schedule", options.schedule, SCHEDULES)):
        if value is not None and value not in known:
            raise UserError(f"there is no {option} {value!r}: choose from {', '.join(known)}")
    check_guidance(options, model)
    if options.autoguidance is not None:
        settings["guiding_model"] = load_guiding_model(options, model)
    return settings


def check_guidance(options: argparse.Namespace, model: Any) -> None:
    """Raise UserError where there is nothing to be guided by, or nothing that guides."""
    guided = options.guidance is not None or model.sampling.guidance_scale != 1
    if not guided and (options.autoguidance is not None or options.guidance_interval is not None):
        raise UserError("--autoguidance and --guidance-interval change nothing by themselves: add --guidance SCALE, such as 2")
    if not model.conditional and options.guidance is not None and options.autoguidance is None:
        raise UserError(f"{options.run} is unconditional: --guidance needs --autoguidance RUN, a worse model to push away from")


def load_guiding_model(options: argparse.Namespace, model: Any) -> Any:
    """The model of `--autoguidance`.

    Raises:
        UserError: it cannot take the place of `model`.
    """
    guiding_model = load(options.autoguidance, "best", options.device, options.trust)
    if not isinstance(guiding_model, type(model)) or guiding_model.image_shape != model.image_shape:
        shape = "x".join(map(str, guiding_model.image_shape))
        raise UserError(
            f"--autoguidance {options.autoguidance} is a {type(guiding_model).__name__} of {shape} images: name a worse "
            f"{type(model).__name__} of the images of {options.run}"
        )
    fits = not (model.conditional and guiding_model.conditional) or guiding_model.num_classes == model.num_classes
    if not fits or type(guiding_model.base) is not type(model.base):
        raise UserError(
            f"--autoguidance {options.autoguidance} is told or shown something else than {options.run}: train it alike"
        )
    return guiding_model
