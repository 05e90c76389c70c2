"""FID of a trained diffusion model by sampler and number of steps: a table, a CSV and a plot.

    python benchmarks/samplers.py RUN [--num 10000] [--split test] [--seed 0] [--out docs/images/samplers]

Every row has the same seeds and labels and is scored as by `genai test`. NFE is the number of evaluations of the network
per image; the seconds are those of sampling alone.
"""

import argparse
import csv
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure

import genai
from genai.images import to_uint8
from genai.metrics.evaluation import Evaluator
from genai.metrics.features import load_extractor
from genai.metrics.labels import cycle_labels, expected_labels
from genai.models.seeds import image_seeds
from genai.runs import find
from genai.runs.data import data_of

PLANS: tuple[dict[str, Any], ...] = (
    {"sampler": "heun", "steps": 18, "schedule": "karras"},
    {"sampler": "dpmpp", "steps": 10, "schedule": "karras"},
    {"sampler": "dpmpp", "steps": 5, "schedule": "flow"},
    {"sampler": "dpmpp", "steps": 10, "schedule": "flow"},
    {"sampler": "dpmpp", "steps": 20, "schedule": "flow"},
    {"sampler": "heun", "steps": 6, "schedule": "flow"},
    {"sampler": "unipc", "steps": 5, "schedule": "flow"},
    {"sampler": "unipc", "steps": 10, "schedule": "flow"},
    {"sampler": "euler", "steps": 10, "schedule": "flow"},
    {"sampler": "euler", "steps": 35, "schedule": "flow"},
    {"sampler": "ddpm", "steps": 35, "schedule": "flow"},
)
BATCH_SIZE = 500


class Row(NamedTuple):
    """A sampler with its settings, and the scores of its samples."""

    sampler: str
    schedule: str
    steps: int
    nfe: float
    fid: float
    precision: float
    recall: float
    seconds: float


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--num", type=int, default=10_000)
    parser.add_argument("--split", default="test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", default="last")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", default="samplers")
    options = parser.parse_args()
    run = find(options.run)
    model: Any = genai.load(run, options.checkpoint, options.device)
    data = data_of(run)
    data.prepare_data()
    data.setup(options.split)
    network = load_extractor(data.name).to(options.device)
    evaluator = Evaluator.of(data, options.split, network, options.num, options.seed)
    floor = evaluator.floor.scores["fid"]
    print(f"floor of FID {floor:.4f}, {options.num} samples, {options.split} split, seed {options.seed}")
    condition = cycle_labels(data.split(options.split).labels, options.num) if model.conditional else None
    labels = expected_labels(data, options.split, network, options.num) if model.conditional else None
    rows = []
    for plan in PLANS:
        rows.append(measure(model, plan, evaluator, condition, labels, options))
        print("  ".join(f"{name} {value}" for name, value in rows[-1]._asdict().items()), flush=True)
    write(rows, floor, Path(options.out))


def measure(model: Any, plan: dict[str, Any], evaluator: Evaluator, condition: Any, labels: Any, options: Any) -> Row:
    """Sample with one sampler, and score the samples."""
    evaluations = 0

    def count(x: torch.Tensor, sigma: torch.Tensor) -> None:
        nonlocal evaluations
        evaluations += 1

    seeds = image_seeds(options.seed, options.num)
    features, seconds, calls = [], 0.0, 0
    for start in range(0, options.num, BATCH_SIZE):
        rows = slice(start, start + BATCH_SIZE)
        began = time.perf_counter()
        images = model.sample(seeds[rows], None if condition is None else condition[rows], callback=count, **plan)
        seconds += time.perf_counter() - began
        calls += -(-len(seeds[rows]) // model.sample_chunk)
        features.append(evaluator.network(to_uint8(images)).cpu())
    scores = evaluator.measure(type(features[0])(*(torch.cat(parts) for parts in zip(*features, strict=True))), labels).scores
    found = scores["fid"], scores["precision"], scores["recall"]
    return Row(plan["sampler"], plan["schedule"], plan["steps"], evaluations / calls, *found, round(seconds, 1))


def write(rows: list[Row], floor: float, out: Path) -> None:
    """`out`.csv and `out`.png."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Row._fields)
        writer.writerows(rows)
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for way in dict.fromkeys(row[:2] for row in rows):
        points = sorted((row.nfe, row.fid) for row in rows if row[:2] == way)
        axes.plot(*zip(*points, strict=True), "o-", label=", ".join(way))
    axes.axhline(floor, color="grey", linestyle=":", label="real against real")
    axes.set(xlabel="evaluations of the network for an image (NFE)", ylabel="FID", xscale="log", yscale="log")
    axes.legend()
    figure.savefig(out.with_suffix(".png"), dpi=120)


if __name__ == "__main__":
    main()
