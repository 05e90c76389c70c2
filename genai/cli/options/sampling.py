"""The options of models that sample in steps: sampler, noise schedule and guidance."""

import argparse
import math
from dataclasses import dataclass
from typing import Any

from genai.cli.options.arguments import Options, VerbParser, finite, positive
from genai.cli.options.run import LoadedRun
from genai.errors import UserError
from genai.models.capabilities import HasSampler
from genai.models.diffusion.samplers import SAMPLERS, option_types, parse_options
from genai.models.diffusion.sigmas import SCHEDULES
from genai.runs import load


@dataclass(frozen=True)
class SamplerOptions(Options):
    """Settings of a model that samples in steps; None is the value of the model's config."""

    sampler: str | None = None
    sampler_option: tuple[tuple[str, str], ...] = ()
    steps: int | None = None
    schedule: str | None = None
    guidance: float | None = None
    guidance_interval: tuple[float, float] | None = None
    autoguidance: str | None = None

    @staticmethod
    def add_to(parser: VerbParser) -> None:
        """Add the options."""
        group = parser.add_argument_group("sampler (default: as in the run's config)")
        group.add_argument("--sampler", metavar="NAME", help=", ".join(SAMPLERS))
        names = ", ".join(f"{key} of {name}" for name in SAMPLERS for key in option_types(name))
        text = f"option of the sampler, repeatable: {names}"
        group.add_argument("--sampler-option", type=key_value, action="append", default=[], metavar="NAME=VALUE", help=text)
        group.add_argument("--steps", type=positive, metavar="N", help="number of steps")
        group.add_argument("--schedule", metavar="NAME", help=f"noise schedule: {', '.join(SCHEDULES)}")
        group.add_argument("--guidance", type=finite, metavar="SCALE", help="guidance scale; 1 is no guidance")
        group.add_argument("--guidance-interval", type=interval, metavar="LOW,HIGH", help="range of noise levels with guidance")
        text = "run whose model guides (autoguidance), instead of the null condition"
        group.add_argument("--autoguidance", metavar="RUN", help=text)

    def settings(self, source: LoadedRun, device: str) -> dict[str, Any]:
        """The options given, as keyword arguments of the model's `sample`.

        Raises:
            UserError: the model does not sample in steps, or the options would change nothing.
        """
        given = {
            "sampler": self.sampler,
            "sampler_options": dict(self.sampler_option) or None,
            "steps": self.steps,
            "schedule": self.schedule,
            "guidance_scale": self.guidance,
            "guidance_interval": self.guidance_interval,
            "guiding_model": self.autoguidance,
        }
        settings: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if not settings:
            return {}
        run, model = source.run, source.model
        if not isinstance(model, HasSampler):
            raise UserError(
                f"{run.path} is a {type(model).__name__}, which samples in one step: leave the sampler's options out"
            )
        for option, value, known in (("--sampler", self.sampler, SAMPLERS), ("--schedule", self.schedule, SCHEDULES)):
            if value is not None and value not in known:
                raise UserError(f"there is no {option} {value!r}: choose from {', '.join(known)}")
        if "sampler_options" in settings:
            settings["sampler_options"] = parse_options(self.sampler or model.sampling.sampler, settings["sampler_options"])
        self.check_guidance(source)
        if self.autoguidance is not None:
            settings["guiding_model"] = load_guiding_model(self.autoguidance, source, device)
        return settings

    def check_guidance(self, source: LoadedRun) -> None:
        """Raise UserError if there is no guidance scale, or one of 1, or no guiding model."""
        scale = source.model.sampling.guidance_scale if self.guidance is None else self.guidance
        if scale == 1 and (self.autoguidance is not None or self.guidance_interval is not None):
            raise UserError("--autoguidance and --guidance-interval have no effect without guidance: add --guidance 2")
        if not source.model.conditional and self.guidance is not None and self.autoguidance is None:
            raise UserError(f"{source.run.path} is unconditional: --guidance needs --autoguidance RUN, a less trained model")
        has_null = not source.model.conditional or getattr(source.model, "condition_dropout", 1.0) > 0
        if not has_null and self.guidance not in (None, 1) and self.autoguidance is None:
            raise UserError(
                f"{source.run.path} was trained with condition_dropout 0 and has no null condition to guide away from: leave "
                "--guidance out, or add --autoguidance RUN, a less trained model"
            )


def load_guiding_model(name: str, source: LoadedRun, device: str) -> Any:
    """The model of `--autoguidance`; UserError if it does not fit the model of `source`."""
    model = source.model
    guiding_model: Any = load(name, "best", device, source.trust)
    if not isinstance(guiding_model, type(model)) or guiding_model.image_shape != model.image_shape:
        shape = "x".join(map(str, guiding_model.image_shape))
        raise UserError(
            f"--autoguidance {name} is a {type(guiding_model).__name__} of {shape} images: name a less trained "
            f"{type(model).__name__} of the images of {source.run.path}"
        )
    fits = not (model.conditional and guiding_model.conditional) or guiding_model.num_classes == model.num_classes
    if not fits or type(guiding_model.conditioning_image) is not type(model.conditioning_image):
        raise UserError(
            f"--autoguidance {name} has another condition or conditioning image than {source.run.path}: use the same for both"
        )
    return guiding_model


def key_value(text: str) -> tuple[str, str]:
    """`churn=20` -> ("churn", "20")."""
    key, separator, value = text.partition("=")
    if not (key and separator and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, such as churn=20")
    return key, value


def interval(text: str) -> tuple[float, float]:
    """`0.2,5` -> (0.2, 5.0)."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low, high = math.nan, math.nan
    if not 0 <= low <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is not two noise levels, the lower first, such as 0.2,5")
    return low, high
