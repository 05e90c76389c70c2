"""genai likelihood: bits per dimension of held-out images, or for a bound by importance sampling their nats."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from rich.progress import track
from torch import Tensor

from genai.cli.options.arguments import VerbParser, add_trust_option, positive
from genai.cli.options.images import load_capable, nothing_said, test_split
from genai.images import to_float
from genai.metrics.reference import subset_indices
from genai.models.base import ImageModel
from genai.models.capabilities import EvaluatesBound, ExactLikelihood
from genai.models.seeds import image_seeds
from genai.runs import Run, merge_json

BATCH_SIZE = 64
Score = Callable[[Tensor, list[int], Tensor | None], Tensor]  # images, seeds, labels -> (N,)


class Estimate(NamedTuple):
    """A mean over test images with its standard error."""

    mean: float
    standard_error: float
    num: int
    seconds: float


def parser() -> VerbParser:
    """The options of `genai likelihood`."""
    verb = VerbParser(
        prog="genai likelihood", description="Bits per dimension, or nats, of the test split, by the model's own density."
    )
    verb.add_argument("run", metavar="RUN", help="run directory, experiment (its newest run) or zoo/NAME")
    verb.add_argument("--num", type=positive, default=256, help="test images (256)")
    verb.add_argument("--samples", type=positive, default=5000, help="of a VAE's posterior for each image (5000)")
    verb.add_argument("--steps", type=positive, default=100, help="noise levels of a diffusion model's ODE solver (100)")
    verb.add_argument("--unconditional", action="store_true", help="do not tell the model the labels")
    verb.add_argument("--seed", type=int, default=0, help="of binarisation, dequantising noise, probe and samples (0)")
    verb.add_argument("--bfloat16", action="store_true", help="let the networks compute in bfloat16, faster and less exact")
    verb.add_argument("--checkpoint", default="best", help="best, last or a file")
    verb.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    add_trust_option(verb)
    return verb


def run(arguments: list[str]) -> None:
    """Print the mean and its standard error, and keep them in RUN/metrics.json."""
    options = parser().parse_args(arguments)
    source, model = load_capable(options, ExactLikelihood, "count bits", "a diffusion or VAE run")
    is_bound = isinstance(model, EvaluatesBound)
    if is_bound:
        estimate = measure(options, source, model, partial(negative_bound, model, options.samples))
        entry: dict[str, Any] = {"nats": {"samples": options.samples}}
        unit, how = "nats", f"IWAE-{options.samples}"
    else:
        estimate = measure(options, source, model, partial(bits_per_dim, model, options.steps))
        entry = {"bits_per_dim": {"steps": options.steps}}
        unit, how = "bits/dim", f"{options.steps} steps of Heun's method"
    tells = model.conditional and not options.unconditional
    about = f"{estimate.num} test images, {how}, {'labels told' if tells else 'no labels told'}"
    print(f"{estimate.mean:.4f} +- {estimate.standard_error:.4f} {unit} ({about}; {estimate.seconds:.0f} s)")
    if not source.is_exported:
        settings = {"labels": tells, "seed": options.seed, "bfloat16": options.bfloat16}
        filled = {name: estimate._asdict() | own | settings for name, own in entry.items()}
        merge_json(source.path / "metrics.json", filled)


def bits_per_dim(model: ExactLikelihood, steps: int, images: Tensor, seeds: Sequence[int], condition: Tensor | None) -> Tensor:
    """Bits per dimension (N,)."""
    return model.likelihood(images, seeds, condition, steps).bits_per_dim


def negative_bound(
    model: EvaluatesBound, num_samples: int, images: Tensor, seeds: Sequence[int], told: Tensor | None
) -> Tensor:
    """Bound of -ln p(x) in nats (N,)."""
    return -model.log_likelihood(images, seeds, num_samples, told)


def measure(options: argparse.Namespace, run: Run, model: ImageModel, score: Score) -> Estimate:
    """The mean score of test images, each with a seed of its own and told what the options say."""
    split = test_split(run, options.trust)
    images, labels = split.batch(subset_indices(len(split), options.num))
    told = None
    if model.conditional:
        told = nothing_said(run, model, len(images), options.trust) if options.unconditional else labels
    seeds = image_seeds(options.seed, len(images))
    starts = range(0, len(images), BATCH_SIZE)
    before, parts = time.perf_counter(), []
    for start in track(starts, "scoring", transient=True, disable=not sys.stderr.isatty()):
        rows = slice(start, start + BATCH_SIZE)
        with torch.autocast(torch.device(options.device).type, torch.bfloat16, enabled=options.bfloat16):
            parts.append(score(to_float(images[rows]), seeds[rows], None if told is None else told[rows]).cpu())
    scores = torch.cat(parts)
    seconds = time.perf_counter() - before
    return Estimate(float(scores.mean()), float(scores.std() / len(scores) ** 0.5), len(scores), seconds)
