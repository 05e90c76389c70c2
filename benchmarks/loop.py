"""The MLP GAN's step through `genai fit`'s engine against a bare PyTorch loop, in one run.

    python benchmarks/loop.py [--batches 400] [--rounds 5]

Same networks, optimisers, batch size, averaged generator and data; the two alternate, so that a drift of
the machine's speed affects both alike. Validation, galleries and checkpoints are switched off on both sides.
"""

import argparse
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import lightning as L
import torch
from rich.console import Console
from rich.table import Table
from torch.nn.functional import softplus

from genai.data.mnist import MNIST
from genai.images import to_float
from genai.models.ema import Averaged
from genai.models.gan.gan import GAN
from genai.networks.mlp import MLPDiscriminator, MLPGenerator
from genai.training.callbacks.randomness import CountedRandomness
from genai.training.callbacks.throughput import Throughput
from genai.training.loggers import MetricsCSV

SHAPE = (1, 28, 28)
warnings.filterwarnings("ignore")


def adam(network: torch.nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999))


def bare(images: torch.Tensor, batch_size: int, batches: int) -> float:
    """Seconds of a loop written by hand over images uint8 (N, 1, 28, 28)."""
    generator, discriminator = MLPGenerator(SHAPE), MLPDiscriminator(SHAPE)
    averaged = Averaged(generator, halflife_kimg=10)
    g_optimizer, d_optimizer = adam(generator), adam(discriminator)
    order = torch.randperm(len(images))
    start = time.perf_counter()
    for i in range(batches):
        real = to_float(images[order[i * batch_size : (i + 1) * batch_size]])
        fake = generator(torch.randn(batch_size, generator.latent_dim))
        d_optimizer.zero_grad()
        (softplus(-discriminator(real)) + softplus(discriminator(fake.detach()))).mean().backward()
        d_optimizer.step()
        g_optimizer.zero_grad()
        discriminator.requires_grad_(False)
        softplus(-discriminator(fake)).mean().backward()
        discriminator.requires_grad_(True)
        g_optimizer.step()
        averaged.update(generator, batch_size, (i + 1) * batch_size)
    return time.perf_counter() - start


class Stopwatch(L.Callback):
    """Seconds from the first batch to the last."""

    seconds = 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.start = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.seconds = time.perf_counter() - self.start


def through_lightning(data: MNIST, batches: int) -> float:
    """Seconds of the same training through the Trainer, with the callbacks and the CSV that `genai fit` adds."""
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            accelerator="cpu",
            max_epochs=1,
            limit_train_batches=batches,
            limit_val_batches=0,
            logger=MetricsCSV(Path(folder)),
            callbacks=[CountedRandomness(0), Throughput(), watch],
            enable_checkpointing=False,
            enable_model_summary=False,
        )
        trainer.fit(GAN(SHAPE, 10, MLPGenerator, MLPDiscriminator), datamodule=data)
    return watch.seconds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=128)
    options = parser.parse_args()
    data = MNIST(batch_size=options.batch_size)
    images = torch.from_numpy(data.split("train").images[:])
    bare(images, options.batch_size, 20)
    rounds = []
    for _ in range(options.rounds):
        rounds.append((bare(images, options.batch_size, options.batches), through_lightning(data, options.batches)))
    table = Table("round", "bare, ms/step", "genai, ms/step", "ratio", title=f"MLP GAN, batch {options.batch_size}")
    for i, (one, other) in enumerate(rounds):
        scale = 1000 / options.batches
        table.add_row(str(i + 1), f"{one * scale:.2f}", f"{other * scale:.2f}", f"{other / one:.3f}")
    ratio = statistics.median(other / one for one, other in rounds)
    table.caption = f"median ratio {ratio:.3f}; {torch.get_num_threads()} threads"
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
