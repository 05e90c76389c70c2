"""genai likelihood: estimate the log-likelihood of test images or of text

Group: inspect
"""

import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from rich.progress import track
from torch import Tensor

from genai.cli.options.arguments import VerbParser, positive, refuse
from genai.cli.options.labels import null_condition
from genai.cli.options.run import RUN_HELP, LoadedRun, RequiredCapability, RunOptions, add_seed_option
from genai.cli.text_likelihood import text_likelihood
from genai.errors import UserError
from genai.images import to_float
from genai.metrics.reference import subset_indices
from genai.models.capabilities import EvaluatesBound, ExactLikelihood, GeneratesText, HasSampler, LikelihoodEstimate
from genai.models.seeds import image_seeds
from genai.runs import merge_json

PRESETS = ("configs/digits/vae.yaml", "configs/digits/diffusion.yaml")
LIKELIHOOD = RequiredCapability((ExactLikelihood, EvaluatesBound, GeneratesText), "estimate a likelihood", PRESETS)
BATCH_SIZE = 64
NUM_IMAGES, NUM_SAMPLES, NUM_STEPS = 256, 5000, 100  # defaults of the options
Estimator = Callable[[Tensor, Sequence[int], Tensor | None], LikelihoodEstimate]  # images, seeds, condition -> N estimates


class Summary(NamedTuple):
    """Means over test images with their standard errors, and what was estimated."""

    nats: float
    nats_standard_error: float
    bits_per_dim: float
    bits_per_dim_standard_error: float
    kind: str
    num: int
    seconds: float


def parser() -> VerbParser:
    """The options of `genai likelihood`."""
    verb = VerbParser(
        "likelihood",
        "RUN [FILE] [options]",
        "Estimate the log-likelihood of images of the test split, or of a split or a file of text; the result of a split is "
        "written to RUN/metrics.json.",
    )
    verb.add_argument("run", metavar="RUN", help=RUN_HELP)
    verb.add_argument("file", metavar="FILE", nargs="?", help="a text file; default: the split of --split")
    RunOptions.add_model_options(verb)
    text = verb.add_argument_group("text")
    text.add_argument("--split", choices=["train", "val", "test"], help="split of text (default: test)")
    about = "tokens from one window to the next: smaller is slower and gives more context (default: the context length)"
    text.add_argument("--stride", type=positive, metavar="N", help=about)
    verb.add_argument("--num", type=positive, metavar="N", help=f"number of test images (default: {NUM_IMAGES})")
    about = f"importance samples per image, for a bound (default: {NUM_SAMPLES})"
    verb.add_argument("--samples", type=positive, metavar="N", help=about)
    verb.add_argument("--steps", type=positive, metavar="N", help=f"noise levels of an ODE solver (default: {NUM_STEPS})")
    verb.add_argument("--unconditional", action="store_true", help="use the null condition instead of the images' labels")
    about = "seed of dequantisation, binarisation, probes and importance samples (default: 0)"
    add_seed_option(verb, about, default=None)
    verb.add_argument("--bfloat16", action="store_true", help="run the networks in bfloat16: faster, less exact")
    return verb


def run(arguments: list[str]) -> None:
    """Print the means and their standard errors, and write them to RUN/metrics.json."""
    options = parser().parse(arguments)
    run = RunOptions.from_namespace(options)
    source = run.load(LIKELIHOOD)
    of_model = f"on a {type(source.model).__name__}"
    if isinstance(source.model, GeneratesText):
        refuse(options, ("num", "samples", "steps", "unconditional", "seed", "bfloat16"), of_model)
        if options.file is not None:
            refuse(options, ("split",), "on a FILE")
        text_likelihood(source, options.file, options.split or "test", options.stride)
        return
    if options.file is not None:
        raise UserError(f"{source.run.path} is a model of images: leave FILE out")
    refuse(options, ("split", "stride"), of_model)
    seed = options.seed or 0
    model, is_conditional = source.model, source.model.conditional and not options.unconditional
    estimate: Estimator
    if isinstance(model, EvaluatesBound):
        refuse(options, ("steps",), of_model)
        estimate = partial(model.likelihood_bound, num_samples=options.samples or NUM_SAMPLES)
    else:
        has_steps = isinstance(model, HasSampler)
        refuse(options, ("samples",) if has_steps else ("samples", "steps"), of_model)
        solver: dict[str, Any] = {"steps": options.steps or NUM_STEPS} if has_steps else {}
        estimate = partial(model.likelihood, **solver)
    with torch.autocast(torch.device(run.device).type, torch.bfloat16, enabled=options.bfloat16):
        summary = measure(source, estimate, options.num or NUM_IMAGES, seed, is_conditional)
    print(f"nats      {summary.nats:.4f} +- {summary.nats_standard_error:.4f}")
    print(f"bits/dim  {summary.bits_per_dim:.4f} +- {summary.bits_per_dim_standard_error:.4f}")
    print(textwrap.fill(summary.kind, 80))
    labels = "conditional on the labels" if is_conditional else "unconditional"
    print(f"{summary.num:,} test images, {labels}, {summary.seconds:.0f} s")
    if not source.run.is_exported:
        settings: dict[str, Any] = {"labels": is_conditional, "seed": seed, "bfloat16": options.bfloat16}
        merge_json(source.run.path / "metrics.json", {"likelihood": summary._asdict() | settings})


def measure(source: LoadedRun, estimate: Estimator, num: int, seed: int, is_conditional: bool) -> Summary:
    """The mean estimate of `num` test images, each with its own seed, and with their labels if `is_conditional`."""
    split = source.test_split()
    images, labels = split.batch(subset_indices(len(split), num))
    if len(images) < 2:
        raise UserError("a standard error needs 2 images or more: use another --num, or data with more test images")
    condition = labels if is_conditional else null_condition(source, len(images))
    seeds = image_seeds(seed, len(images))
    starts = range(0, len(images), BATCH_SIZE)
    before, parts = time.perf_counter(), []
    for start in track(starts, "estimating", transient=True, disable=not sys.stderr.isatty()):
        rows = slice(start, start + BATCH_SIZE)
        parts.append(estimate(to_float(images[rows]), seeds[rows], None if condition is None else condition[rows]))
    seconds = time.perf_counter() - before
    nats, bits = (torch.cat([getattr(part, name).cpu() for part in parts]) for name in ("nats", "bits_per_dim"))
    return Summary(*mean_and_error(nats), *mean_and_error(bits), parts[0].kind, len(nats), seconds)


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """The mean of N values and its standard error."""
    return float(values.mean()), float(values.std() / len(values) ** 0.5)
