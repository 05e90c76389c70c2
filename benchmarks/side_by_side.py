"""What benchmarks/diffusion.py and vae.py share: genai and other libraries, the same wall-clock, the same evaluator."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import genai
from genai.data.mnist import MNIST
from genai.images import to_uint8
from genai.metrics.evaluation import Evaluator
from genai.metrics.features import load_extractor
from genai.metrics.labels import cycle_labels
from genai.models.seeds import image_seeds
from genai.runs import REPOSITORY

COLUMNS = {
    "parameters": "parameters",
    "images_seen": "images seen",
    "training": "images/s, training",
    "sampling": "images/s, sampling",
    "fid": "FID",
    "recall": "recall",
    "nats": "-ln p(x), bound in nats",
}


class Trained(NamedTuple):
    """Metrics by the keys of COLUMNS, and samples uint8 (N, 1, 28, 28)."""

    figures: dict[str, Any]
    samples: Tensor


def parser(description: str, kimg: int) -> argparse.ArgumentParser:
    """The options of both benchmarks."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--rivals", required=True, metavar="PYTHON", help="of the environment that has the other libraries")
    options.add_argument("--minutes", type=float, default=10, help="of training, for each (10)")
    options.add_argument("--kimg", type=int, default=kimg, help=f"length of our learning-rate schedule ({kimg})")
    options.add_argument("--num", type=int, default=2000, help="samples (2000)")
    return options


def compare(options: Any, libraries: Sequence[str], config: str, extra: Callable[[Any, MNIST], dict[str, Any]]) -> None:
    """Train, sample, score and print; `extra(model, data)` adds metrics of genai to those that the other libraries print."""
    data = MNIST()
    data.prepare_data()
    data.setup("test")
    evaluator = Evaluator.of(data, "test", load_extractor("mnist"), options.num, 0)
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        write_images(data, Path(folder))
        for library in [*libraries, "genai"]:
            if library == "genai":
                figures, samples = ours(config, data, options, folder, extra)
            else:
                figures, samples = theirs(library, options, folder)
            rows[library] = figures | score(evaluator, samples)
            print(library, rows[library], flush=True)
    title = f"{options.minutes:g} minutes, {options.num} samples, floor of FID {evaluator.floor.scores['fid']:.3f}"
    known = [key for key in COLUMNS if key in rows["genai"]]
    table = Table("library", *(COLUMNS[key] for key in known), title=title)
    for library, figures in rows.items():
        table.add_row(library, *(f"{figures[key]:,}" for key in known))
    Console().print(table)


def write_images(data: MNIST, folder: Path) -> None:
    """train.npy and test.npy, uint8 (N, 1, 28, 28)."""
    for split in ("train", "test"):
        np.save(folder / f"{split}.npy", np.asarray(data.split(split).images))


def score(evaluator: Evaluator, images: Tensor) -> dict[str, float]:
    """FID and recall of images (N, 1, 28, 28) uint8."""
    parts = [evaluator.network(part).cpu() for part in images.split(500)]
    scores = evaluator.measure(type(parts[0])(*(torch.cat(part) for part in zip(*parts, strict=True))), None).scores
    return {name: round(scores[name], 3) for name in ("fid", "recall")}


def theirs(library: str, options: Any, folder: str) -> Trained:
    """The metrics and samples of another library, from its own process."""
    command = [options.rivals, str(REPOSITORY / "benchmarks/rivals.py"), library, folder]
    command += ["--minutes", str(options.minutes), "--num", str(options.num)]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Trained(json.loads(printed.splitlines()[-1]), torch.from_numpy(np.load(Path(folder) / f"{library}.npy")))


def ours(config: str, data: MNIST, options: Any, folder: str, extra: Callable[[Any, MNIST], dict[str, Any]]) -> Trained:
    """The metrics and samples of a preset of genai, trained by `genai fit`."""
    minutes, seconds = divmod(round(60 * options.minutes), 60)
    command = [sys.executable, "-m", "genai", "fit", "-c", str(REPOSITORY / config), "--experiment", "ours"]
    command += ["--trainer.max_time", f"00:00:{minutes:02}:{seconds:02}", "--trainer.max_epochs", "-1"]
    command += ["--model.init_args.lr_schedule.kimg", str(options.kimg), "--tracker", "csv"]
    command += ["--evaluation.every_n_epochs", "0", "--gallery.every_n_epochs", "1000"]
    subprocess.run(command, check=True, env={**os.environ, "GENAI_RUNS": folder}, stdout=subprocess.DEVNULL)
    model: Any = genai.load(Path(folder) / "ours", "last")
    labels = cycle_labels(data.split("test").labels, options.num) if model.conditional else None
    began = time.perf_counter()
    samples = to_uint8(model.sample(image_seeds(0, options.num), labels))
    figures = {
        "parameters": sum(parameter.numel() for parameter in model.network.parameters()),
        "images_seen": model.images_seen,
        "training": round(model.images_seen / (60 * options.minutes), 1),
        "sampling": round(options.num / (time.perf_counter() - began), 1),
    }
    return Trained(figures | extra(model, data), samples)
