"""genai likelihood: bits per dimension of held-out images."""

import torch

from genai.metrics.reference import subset_indices
from genai.models.base import CountsBits, image_seeds
from genai.pixels import to_float
from genai.runs import merge_json
from genai.verbs.arguments import VerbParser, positive
from genai.verbs.data import data_of
from genai.verbs.editing import load_capable, nothing_said

BATCH_SIZE = 64


def parser() -> VerbParser:
    """The options of `genai likelihood`."""
    verb = VerbParser(prog="genai likelihood", description="Bits per dimension of the test split, by the model's own density.")
    verb.add_argument("run", metavar="RUN", help="run directory, experiment (its newest run) or zoo/NAME")
    verb.add_argument("--num", type=positive, default=256, help="test images (256)")
    verb.add_argument("--steps", type=positive, default=50, help="noise levels of the ODE's solver (50)")
    verb.add_argument("--unconditional", action="store_true", help="do not tell the model the labels")
    verb.add_argument("--seed", type=int, default=0, help="of the dequantising noise and the divergence's probe (0)")
    verb.add_argument("--checkpoint", default="best", help="best, last or a file")
    verb.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    verb.add_argument("--trust", action="append", default=[], help="a package whose classes the config may name")
    return verb


def run(arguments: list[str]) -> None:
    """Print the mean and its standard error, and keep them in RUN/metrics.json."""
    options = parser().parse_args(arguments)
    source, model = load_capable(options, CountsBits, "count bits")
    data = data_of(source, options.trust)
    data.prepare_data()
    data.setup("test")
    split = data.split("test")
    images, labels = split.batch(subset_indices(len(split), options.num))
    told = None
    if model.conditional:
        told = nothing_said(source, model, len(images), options.trust) if options.unconditional else labels
    seeds = image_seeds(options.seed, len(images))
    parts = []
    for start in range(0, len(images), BATCH_SIZE):
        rows = slice(start, start + BATCH_SIZE)
        part = None if told is None else told[rows]
        parts.append(model.bits_per_dim(to_float(images[rows]), seeds[rows], part, steps=options.steps).cpu())
    bits = torch.cat(parts)
    mean, error = float(bits.mean()), float(bits.std() / len(bits) ** 0.5)
    tells = model.conditional and not options.unconditional
    how = "labels told" if tells else "no labels told"
    print(f"{mean:.4f} +- {error:.4f} bits/dim ({len(bits)} test images, {options.steps} steps of Heun's method, {how})")
    if not source.is_exported:
        entry = {"mean": mean, "standard_error": error, "num": len(bits), "steps": options.steps, "labels": tells}
        merge_json(source.path / "metrics.json", {"bits_per_dim": entry})
