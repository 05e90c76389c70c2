"""How a model that draws in steps is told to draw."""

import argparse
from typing import Any

from genai.errors import UserError
from genai.models.base import GenerativeModel, Stepwise
from genai.runs import load
from genai.verbs.arguments import positive


def add_step_options(verb: argparse.ArgumentParser) -> None:
    """The options of models that draw in steps; each is the model's own unless given."""
    verb.add_argument("--sampler", help="euler, heun, ddpm, ddim, dpmpp, unipc or adaptive")
    verb.add_argument("--steps", type=positive, help="noise levels passed")
    verb.add_argument("--schedule", help="of the noise levels: karras, linear, exponential, cosine or flow")
    verb.add_argument("--guidance", type=float, metavar="SCALE", help="push towards what is asked; 1 is none")
    verb.add_argument("--guidance-interval", type=interval, metavar="LOW,HIGH", help="noise levels that are guided")
    verb.add_argument("--autoguidance", metavar="RUN", help="a worse model to push away from, not an unconditional one")


def interval(text: str) -> tuple[float, float]:
    """`0.2,5` -> (0.2, 5.0)."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not two noise levels such as 0.2,5") from None
    return low, high


def step_settings(options: argparse.Namespace, model: GenerativeModel) -> dict[str, Any]:
    """The options given, as `sample` takes them.

    Raises:
        UserError: the model does not draw in steps.
    """
    given = {
        "sampler": options.sampler,
        "steps": options.steps,
        "schedule": options.schedule,
        "guidance_scale": options.guidance,
        "guidance_interval": options.guidance_interval,
        "weaker": options.autoguidance and load(options.autoguidance, "best", options.device, options.trust),
    }
    settings = {name: value for name, value in given.items() if value is not None}
    if settings and not isinstance(model, Stepwise):
        raise UserError(f"{options.run} is a {type(model).__name__}, which draws in one step: leave --sampler and its like out")
    if not model.conditional and options.guidance is not None and not options.autoguidance:
        raise UserError(f"{options.run} is unconditional: --guidance needs --autoguidance RUN, a worse model to push away from")
    return settings
