"""What benchmarks/loop.py and diffusion_loop.py share: training steps through Lightning, timed against a bare PyTorch loop."""

import argparse
import statistics
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from rich.console import Console
from rich.table import Table

from genai.data.mnist import MNIST
from genai.training.callbacks.axis import ImagesSeenAxis
from genai.training.callbacks.randomness import SeedEachBatch
from genai.training.callbacks.throughput import Throughput
from genai.training.loggers import MetricsCSV

Clock = Callable[[], float]  # time.perf_counter, or time.process_time on a machine with other programs
warnings.filterwarnings("ignore")


class TrainingTime(L.Callback):
    """Seconds from the first batch of an epoch to its last."""

    seconds = 0.0

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.start = self.clock()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.seconds = self.clock() - self.start


def through_lightning(model: L.LightningModule, data: MNIST, batches: int, clock: Clock, **options: Any) -> float:
    """Seconds of `batches` training steps through the Trainer, with the callbacks and the CSV that `genai fit` adds."""
    watch = TrainingTime(clock)
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            accelerator="cpu",
            max_epochs=1,
            limit_train_batches=batches,
            limit_val_batches=0,
            logger=MetricsCSV(Path(folder)),
            callbacks=[ImagesSeenAxis(), SeedEachBatch(0), Throughput(), watch],
            enable_checkpointing=False,
            enable_model_summary=False,
            **options,
        )
        trainer.fit(model, datamodule=data)
    return watch.seconds


def parse_options(description: str, batches: int) -> argparse.Namespace:
    """The options of both benchmarks: --batches, --rounds and --batch-size."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--batches", type=int, default=batches, help=f"training steps per round ({batches})")
    parser.add_argument("--rounds", type=int, default=5, help="(5)")
    parser.add_argument("--batch-size", type=int, default=128, help="(128)")
    return parser.parse_args()


def compare(title: str, bare: Callable[[], float], lightning: Callable[[], float], options: argparse.Namespace) -> None:
    """Time both in turn, so that a drift of the machine's speed affects both alike, and print the ratio of each round."""
    rounds = [(bare(), lightning()) for _ in range(options.rounds)]
    table = Table("round", "bare, ms/step", "genai, ms/step", "ratio", title=f"{title}, batch {options.batch_size}")
    scale = 1000 / options.batches
    for i, (one, other) in enumerate(rounds, start=1):
        table.add_row(str(i), f"{one * scale:.2f}", f"{other * scale:.2f}", f"{other / one:.3f}")
    ratio = statistics.median(other / one for one, other in rounds)
    table.caption = f"median ratio {ratio:.3f}; {torch.get_num_threads()} threads"
    Console(width=100).print(table)
