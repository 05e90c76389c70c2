"""Diffusion of MNIST by genai, denoising-diffusion-pytorch and diffusers: the same wall-clock, the same evaluator.

    python -m venv rivals && rivals/bin/pip install denoising-diffusion-pytorch diffusers
    python benchmarks/diffusion.py --rivals rivals/bin/python [--minutes 10] [--kimg 350] [--num 2000]

The other libraries live in an environment of their own (benchmarks/rivals.py says which settings they have). All train one
after the other, in bfloat16, with as many threads as OMP_NUM_THREADS says. `--kimg` is the length of our learning-rate
schedule: about what this machine sees in the time, which the first lines of a run tell. Scored on the test split.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import genai
from genai.data.mnist import MNIST
from genai.metrics.features import load_extractor
from genai.metrics.quality import Yardstick, cycled
from genai.models.base import image_seeds
from genai.pixels import to_uint8
from genai.runs import REPOSITORY

CONFIG = REPOSITORY / "configs/mnist/diffusion.yaml"


def main() -> None:
    """Train, draw, score, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rivals", required=True, metavar="PYTHON", help="of the environment that has the other libraries")
    parser.add_argument("--libraries", nargs="*", default=["ddpm", "diffusers"])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--kimg", type=int, default=350)
    parser.add_argument("--num", type=int, default=2000)
    options = parser.parse_args()
    data = MNIST()
    data.prepare_data()
    data.setup("test")
    yardstick = Yardstick.of(data, "test", load_extractor("mnist"), options.num, 0)
    table = Table(
        title=f"{options.minutes:g} minutes of training, {options.num} samples, floor of FID {yardstick.floor.fid:.3f}"
    )
    for column in ("library", "parameters", "images seen", "images/s, training", "images/s, sampling", "FID", "recall"):
        table.add_column(column)
    with tempfile.TemporaryDirectory() as folder:
        for library in [*options.libraries, "genai"]:
            speed, images = ours(data, options, folder) if library == "genai" else theirs(library, data, options, folder)
            scores = score(yardstick, images)
            table.add_row(library, *(f"{speed[k]:,}" for k in ("parameters", "images_seen", "training", "sampling")), *scores)
            print(library, speed, scores, flush=True)
    Console().print(table)


def score(yardstick: Yardstick, images: torch.Tensor) -> tuple[str, str]:
    """FID and recall of images (N, 1, 28, 28) uint8."""
    parts = [yardstick.network(part).cpu() for part in images.split(500)]
    scores = yardstick.measure(type(parts[0])(*(torch.cat(part) for part in zip(*parts, strict=True))), None).scores
    return f"{scores.fid:.3f}", f"{scores.recall:.3f}"


def theirs(library: str, data: MNIST, options: Any, folder: str) -> tuple[dict[str, Any], torch.Tensor]:
    """Speeds and samples of another library, drawn in its own process."""
    images, samples = Path(folder) / "images.npy", Path(folder) / f"{library}.npy"
    train = data.split("train")
    np.save(images, np.stack([train[i][0].numpy() for i in range(len(train))]))
    command = [options.rivals, str(REPOSITORY / "benchmarks/rivals.py"), library, str(images), str(samples)]
    command += ["--minutes", str(options.minutes), "--num", str(options.num)]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(printed.splitlines()[-1]), torch.from_numpy(np.load(samples))


def ours(data: MNIST, options: Any, folder: str) -> tuple[dict[str, Any], torch.Tensor]:
    """Speeds and samples of the preset, trained by `genai fit`."""
    minutes, seconds = divmod(round(60 * options.minutes), 60)
    command = [
        sys.executable,
        "-m",
        "genai",
        "fit",
        "-c",
        str(CONFIG),
        "--trainer.max_time",
        f"00:00:{minutes:02}:{seconds:02}",
    ]
    command += ["--model.init_args.lr_schedule.kimg", str(options.kimg), "--trainer.max_epochs", "-1"]
    command += ["--quality.every_n_epochs", "0", "--gallery.every_n_epochs", "1000", "--tracker", "csv"]
    subprocess.run(command, check=True, env={**os.environ, "GENAI_RUNS": folder}, stdout=subprocess.DEVNULL)
    model: Any = genai.load(Path(folder) / "mnist-diffusion", "last")
    labels = cycled(data.split("test").labels, options.num)
    began = time.perf_counter()
    images = to_uint8(model.sample(image_seeds(0, options.num), labels))
    speed = {
        "parameters": sum(parameter.numel() for parameter in model.network.parameters()),
        "images_seen": model.images_seen,
        "training": round(model.images_seen / (60 * options.minutes), 1),
        "sampling": round(options.num / (time.perf_counter() - began), 1),
    }
    return speed, images


if __name__ == "__main__":
    main()
