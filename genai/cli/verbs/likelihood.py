"""genai likelihood: estimate the log-likelihood of test images

Group: inspect
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from rich.progress import track
from torch import Tensor

from genai.cli.options.arguments import VerbParser, positive
from genai.cli.options.labels import null_condition
from genai.cli.options.run import Ability, Loaded, RunOptions, add_seed_option
from genai.images import to_float
from genai.metrics.reference import subset_indices
from genai.models.capabilities import EvaluatesBound, ExactLikelihood
from genai.models.seeds import image_seeds
from genai.runs import merge_json

LIKELIHOOD = Ability(ExactLikelihood, "estimate a likelihood", ("configs/digits/vae.yaml", "configs/digits/diffusion.yaml"))
BATCH_SIZE = 64
Score = Callable[[Tensor, list[int], Tensor | None], Tensor]  # images, seeds, condition -> (N,)


class Estimate(NamedTuple):
    """A mean over test images with its standard error."""

    mean: float
    standard_error: float
    num: int
    seconds: float


def parser() -> VerbParser:
    """The options of `genai likelihood`."""
    verb = VerbParser(
        "likelihood",
        "RUN [options]",
        "Estimate the log-likelihood of images of the test split; the result is kept in RUN/metrics.json.",
    )
    RunOptions.add_to(verb)
    verb.add_argument("--num", type=positive, default=256, metavar="N", help="number of test images (default: 256)")
    text = "importance samples per image, for a bound (default: 5000)"
    verb.add_argument("--samples", type=positive, default=5000, metavar="N", help=text)
    verb.add_argument("--steps", type=positive, default=100, metavar="N", help="steps of an ODE solver (default: 100)")
    verb.add_argument("--unconditional", action="store_true", help="use the null condition instead of the images' labels")
    text = "seed of dequantisation, binarisation, probes and importance samples (default: 0)"
    add_seed_option(verb, text)
    verb.add_argument("--bfloat16", action="store_true", help="run the networks in bfloat16: faster, less exact")
    return verb


def run(arguments: list[str]) -> None:
    """Print the mean and its standard error, and keep them in RUN/metrics.json."""
    options = parser().parse(arguments)
    run = RunOptions.from_namespace(options)
    source = run.load(LIKELIHOOD)
    model, is_conditional = source.model, source.model.conditional and not options.unconditional
    score: Score
    if isinstance(model, EvaluatesBound):
        score = partial(negative_bound, model, options.samples)
        entry: dict[str, Any] = {"nats": {"samples": options.samples}}
        unit, how = "nats", f"IWAE-{options.samples}"
    else:
        score = partial(model.bits_per_dim, steps=options.steps)
        entry = {"bits_per_dim": {"steps": options.steps}}
        unit, how = "bits/dim", f"{options.steps} steps of Heun's method"
    autocast = torch.autocast(torch.device(run.device).type, torch.bfloat16, enabled=options.bfloat16)
    with autocast:
        estimate = measure(source, score, options.num, options.seed, is_conditional)
    about = f"{estimate.num} test images, {how}, {'conditional' if is_conditional else 'unconditional'}"
    print(f"{estimate.mean:.4f} +- {estimate.standard_error:.4f} {unit}\n({about}; {estimate.seconds:.0f} s)")
    if not source.run.is_exported:
        settings = {"labels": is_conditional, "seed": options.seed, "bfloat16": options.bfloat16}
        filled = {name: estimate._asdict() | own | settings for name, own in entry.items()}
        merge_json(source.run.path / "metrics.json", filled)


def negative_bound(
    model: EvaluatesBound, num_samples: int, images: Tensor, seeds: list[int], condition: Tensor | None
) -> Tensor:
    """Bound of -ln p(x) in nats (N,)."""
    return -model.log_likelihood(images, seeds, num_samples, condition)


def measure(source: Loaded, score: Score, num: int, seed: int, is_conditional: bool) -> Estimate:
    """The mean score of `num` test images, each with a seed of its own, with their labels where `is_conditional`."""
    split = source.test_split()
    images, labels = split.batch(subset_indices(len(split), num))
    condition: Tensor | None = labels
    if not is_conditional:
        condition = null_condition(source, len(images)) if source.model.conditional else None
    seeds = image_seeds(seed, len(images))
    starts = range(0, len(images), BATCH_SIZE)
    before, parts = time.perf_counter(), []
    for start in track(starts, "scoring", transient=True, disable=not sys.stderr.isatty()):
        rows = slice(start, start + BATCH_SIZE)
        parts.append(score(to_float(images[rows]), seeds[rows], None if condition is None else condition[rows]).cpu())
    scores = torch.cat(parts)
    seconds = time.perf_counter() - before
    return Estimate(float(scores.mean()), float(scores.std() / len(scores) ** 0.5), len(scores), seconds)
