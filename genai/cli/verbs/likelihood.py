"""genai likelihood: -ln p(x) of test images in nats and bits per dimension, exact or by a bound."""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from rich.progress import track
from torch import Tensor

from genai.cli.options.arguments import VerbParser, add_trust_option, positive
from genai.cli.options.images import load_capable, nothing_said, test_split
from genai.images import to_float
from genai.metrics.reference import subset_indices
from genai.models.base import ImageModel
from genai.models.capabilities import EvaluatesBound, ExactLikelihood, LikelihoodEstimate
from genai.models.seeds import image_seeds
from genai.runs import Run, merge_json

BATCH_SIZE = 64
Estimator = Callable[[Tensor, list[int], Tensor | None], LikelihoodEstimate]  # images, seeds, labels


class Mean(NamedTuple):
    """A mean over test images with its standard error."""

    mean: float
    standard_error: float


def parser() -> VerbParser:
    """The options of `genai likelihood`."""
    verb = VerbParser(prog="genai likelihood", description="Estimate -ln p(x) of test images, in nats and bits per dimension.")
    verb.add_argument("run", metavar="RUN", help="run directory, experiment (its newest run) or zoo/NAME")
    verb.add_argument("--num", type=positive, default=256, help="test images (256)")
    verb.add_argument(
        "--samples", type=positive, default=5000, help="importance samples of each image, for a bound; 1 gives the ELBO (5000)"
    )
    verb.add_argument("--steps", type=positive, default=100, help="steps of the ODE solver of a diffusion model (100)")
    verb.add_argument("--unconditional", action="store_true", help="use the null condition instead of the labels")
    verb.add_argument("--seed", type=int, default=0, help="of all random numbers (0)")
    verb.add_argument("--bfloat16", action="store_true", help="run the networks in bfloat16: faster, less exact")
    verb.add_argument("--checkpoint", default="best", help="best, last or a file")
    verb.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    add_trust_option(verb)
    return verb


def run(arguments: list[str]) -> None:
    """Print -ln p(x) in nats and bits/dim with standard errors, and keep them in RUN/metrics.json."""
    options = parser().parse_args(arguments)
    source, model = load_capable(options, ExactLikelihood | EvaluatesBound, "estimate a likelihood", "a diffusion or VAE run")
    if isinstance(model, EvaluatesBound):
        estimator: Estimator = partial(model.likelihood_bound, num_samples=options.samples)
    else:
        estimator = partial(model.likelihood, steps=options.steps)
    before = time.perf_counter()
    estimate = measure(options, source, model, estimator)
    seconds = time.perf_counter() - before
    means = {"nats": mean_of(estimate.nats), "bits/dim": mean_of(estimate.bits_per_dim)}
    is_conditional = model.conditional and not options.unconditional
    print("\n".join(f"{unit:<8} {value.mean:.4f} +- {value.standard_error:.4f}" for unit, value in means.items()))
    labels = "conditional" if is_conditional else "unconditional"
    print(f"{estimate.kind}; {len(estimate.nats)} test images, {labels}; {seconds:.0f} s")
    if not source.is_exported:
        entry = {"nats": means["nats"]._asdict(), "bits_per_dim": means["bits/dim"]._asdict(), "kind": estimate.kind}
        settings = {"num": len(estimate.nats), "labels": is_conditional, "seed": options.seed, "bfloat16": options.bfloat16}
        merge_json(source.path / "metrics.json", {"likelihood": entry | settings})


def mean_of(values: Tensor) -> Mean:
    """The mean of values (N,)."""
    return Mean(float(values.mean()), float(values.std() / len(values) ** 0.5))


def measure(options: argparse.Namespace, run: Run, model: ImageModel, estimator: Estimator) -> LikelihoodEstimate:
    """The estimates for test images, each with its own seed, with their labels unless --unconditional."""
    split = test_split(run, options.trust)
    images, labels = split.batch(subset_indices(len(split), options.num))
    condition: Tensor | None = labels
    if not model.conditional:
        condition = None
    elif options.unconditional:
        condition = nothing_said(run, model, len(images), options.trust)
    seeds = image_seeds(options.seed, len(images))
    parts = []
    for start in track(range(0, len(images), BATCH_SIZE), "scoring", transient=True, disable=not sys.stderr.isatty()):
        rows = slice(start, start + BATCH_SIZE)
        with torch.autocast(torch.device(options.device).type, torch.bfloat16, enabled=options.bfloat16):
            parts.append(estimator(to_float(images[rows]), seeds[rows], None if condition is None else condition[rows]))
    nats, bits_per_dim = (torch.cat([part[i].cpu() for part in parts]) for i in (0, 1))
    return LikelihoodEstimate(nats, bits_per_dim, parts[0].kind)
