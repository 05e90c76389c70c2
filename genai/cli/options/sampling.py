"""Options of models that sample in steps: sampler, steps, noise schedule, guidance."""

import argparse
import math
from typing import Any

from genai.cli.options.arguments import positive
from genai.errors import UserError
from genai.models.base import ImageModel
from genai.models.capabilities import HasSampler
from genai.models.diffusion.samplers import SAMPLERS, option_types, parse_options
from genai.models.diffusion.sigmas import SCHEDULES
from genai.runs import load


def add_step_options(verb: argparse.ArgumentParser) -> None:
    """Add the options of models that sample in steps; each defaults to the model's own setting."""
    options = ", ".join(f"{key} of {name}" for name in SAMPLERS for key in option_types(name))
    verb.add_argument("--sampler", help=", ".join(SAMPLERS))
    verb.add_argument(
        "--sampler-option",
        type=key_value,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"an option of the sampler, repeatable: {options}",
    )
    verb.add_argument("--steps", type=positive, help="number of sampling steps")
    verb.add_argument("--schedule", help=f"noise schedule: {', '.join(SCHEDULES)}")
    verb.add_argument("--guidance", type=finite, metavar="SCALE", help="guidance scale; 1 is no guidance")
    verb.add_argument("--guidance-interval", type=interval, metavar="LOW,HIGH", help="noise levels with guidance")
    verb.add_argument("--autoguidance", metavar="RUN", help="guide with this smaller or less trained model")


def key_value(text: str) -> tuple[str, str]:
    """`churn=20` -> ("churn", "20")."""
    key, separator, value = text.partition("=")
    if not (key and separator and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, such as churn=20")
    return key, value


def finite(text: str) -> float:
    """A number that is neither infinite nor NaN."""
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
    """A float; NaN for anything else."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def step_settings(options: argparse.Namespace, model: ImageModel) -> dict[str, Any]:
    """The given options as arguments of `sample`.

    Raises:
        UserError: the model does not sample in steps, an option is not one of the sampler, or an option has no effect.
    """
    given = {
        "sampler": options.sampler,
        "sampler_options": dict(options.sampler_option) or None,
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
        raise UserError(
            f"{options.run} is a {type(model).__name__}, which samples in one step: omit --sampler and similar options"
        )
    for option, value, known in (("--sampler", options.sampler, SAMPLERS), ("--schedule", options.schedule, SCHEDULES)):
        if value is not None and value not in known:
            raise UserError(f"there is no {option} {value!r}: choose from {', '.join(known)}")
    if "sampler_options" in settings:
        settings["sampler_options"] = parse_options(options.sampler or model.sampling.sampler, settings["sampler_options"])
    check_guidance(options, model)
    if options.autoguidance is not None:
        settings["guiding_model"] = load_guiding_model(options, model)
    return settings


def check_guidance(options: argparse.Namespace, model: Any) -> None:
    """Raise UserError if guidance options are given that have no effect."""
    guided = options.guidance is not None or model.sampling.guidance_scale != 1
    if not guided and (options.autoguidance is not None or options.guidance_interval is not None):
        raise UserError(
            "--autoguidance and --guidance-interval have no effect without guidance: add --guidance SCALE, such as 2"
        )
    if not model.conditional and options.guidance is not None and options.autoguidance is None:
        raise UserError(f"{options.run} is unconditional: --guidance needs --autoguidance RUN, a smaller or less trained model")


def load_guiding_model(options: argparse.Namespace, model: Any) -> Any:
    """The model of `--autoguidance`.

    Raises:
        UserError: it has other images or conditions than `model`.
    """
    guiding_model = load(options.autoguidance, "best", options.device, options.trust)
    if not isinstance(guiding_model, type(model)) or guiding_model.image_shape != model.image_shape:
        shape = "x".join(map(str, guiding_model.image_shape))
        raise UserError(
            f"--autoguidance {options.autoguidance} is a {type(guiding_model).__name__} of {shape} images: name a "
            f"{type(model).__name__} of the same images as {options.run}"
        )
    same_classes = not (model.conditional and guiding_model.conditional) or guiding_model.num_classes == model.num_classes
    if not same_classes or type(guiding_model.conditioning_image) is not type(model.conditioning_image):
        raise UserError(
            f"--autoguidance {options.autoguidance} has another condition or conditioning image than {options.run}: "
            "train it on the same ones"
        )
    return guiding_model
