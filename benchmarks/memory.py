"""The speed-up from keeping freed memory (genai/cli/memory.py): images/s of GAN presets with and without it.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/memory.py

Each measurement has its own process; they alternate: with, without, with, ...
"""

import argparse
import multiprocessing
import statistics
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from gan import TimedGAN
from rich.console import Console
from rich.table import Table

from genai.cli.memory import keep_freed_memory
from genai.training.lightning_cli import GenaiCLI

PRESETS = [Path(f"configs/mnist/{name}.yaml") for name in ("cluster-r3gan", "stacked-cluster-r3gan", "dcgan", "gan")]


def images_per_second(config: Path, keeps: bool, seconds: float) -> float:
    """Training speed of a fresh process, in float32."""
    if keeps:
        keep_freed_memory()
    cli: Any = GenaiCLI("fit", ["-c", str(config), "--trainer.fast_dev_run", "1", "--evaluation.every_n_epochs", "0"], [])
    timed = TimedGAN(cli.model, cli.datamodule.batch_size, bf16=False, device="cpu")
    timed.seconds(cli.model.objective, seconds / 5)
    return len(timed.real) / timed.seconds(cli.model.objective, seconds)


def in_a_process(config: Path, keeps: bool, seconds: float) -> float:
    """`images_per_second` of a process that ends with it."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(images_per_second, config, keeps, seconds).result()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--configs", nargs="*", type=Path, default=PRESETS)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    table = Table("preset", "images/s, kept", "given back", "kept over given back, median", "from", "to")
    for config in options.configs:
        pairs = [[in_a_process(config, keeps, options.seconds) for keeps in (True, False)] for _ in range(options.rounds)]
        kept, given_back = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratios = [one / other for one, other in pairs]
        figures = [kept, given_back], [statistics.median(ratios), min(ratios), max(ratios)]
        table.add_row(config.stem, *(f"{x:.0f}" for x in figures[0]), *(f"{x:.2f}" for x in figures[1]))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
