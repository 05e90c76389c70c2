"""A training step of the MNIST diffusion model through Lightning against a bare PyTorch loop, in one run.

    python benchmarks/diffusion_loop.py [--batches 20] [--rounds 5]

Both train the UNet of configs/mnist/diffusion.yaml with the same loss, optimiser, gradient clipping, learning-rate schedule,
averaged weights, batch size and data, in float32. Validation, galleries and checkpoints are off on both sides. The two
alternate, and the times are processor time, so that other programs on the machine affect the ratio little.
"""

import argparse
import statistics
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path

import lightning as L
import torch
from rich.console import Console
from rich.table import Table
from torch.nn.functional import one_hot

from genai.data.mnist import MNIST
from genai.images import to_float
from genai.models.diffusion.diffusion import Diffusion
from genai.models.diffusion.preconditioning import EDM
from genai.models.ema import Averaged
from genai.models.schedules import Cosine
from genai.networks.unet import UNet
from genai.training.callbacks.axis import ImagesSeenAxis
from genai.training.callbacks.randomness import CountedRandomness
from genai.training.callbacks.throughput import Throughput
from genai.training.loggers import MetricsCSV

SHAPE = (1, 28, 28)
SIGMA_DATA = 0.616
SCHEDULE = Cosine(kimg=800, start=1.0, end=0.01, warmup_kimg=20)
unet = partial(UNet, channels=[64, 128], num_blocks=1, patch_size=2, attention=0, embedding_dim=128)
adam = partial(torch.optim.Adam, lr=2e-3, betas=(0.9, 0.99), fused=True)
warnings.filterwarnings("ignore")


def bare(images: torch.Tensor, labels: torch.Tensor, batch_size: int, batches: int) -> float:
    """Seconds of a loop written by hand over images uint8 (N, 1, 28, 28) with classes (N,)."""
    network = unet(SHAPE, 10)
    averaged = Averaged(network, halflife_kimg=30)
    optimizer = adam(network.parameters())
    order = torch.randperm(len(images))
    start = time.process_time()
    for i in range(batches):
        rows = order[i * batch_size : (i + 1) * batch_size]
        x_0 = to_float(images[rows])
        condition = one_hot(labels[rows], 10).float() * (torch.rand(batch_size, 1) >= 0.1)
        u = (torch.randperm(batch_size) + torch.rand(batch_size)) / batch_size
        sigma = (-1.2 + 1.2 * torch.special.ndtri(u.clamp(1e-6, 1 - 1e-6))).exp()[:, None, None, None]
        total = sigma**2 + SIGMA_DATA**2
        x = x_0 + sigma * torch.randn_like(x_0)
        output = network(x * total.rsqrt(), sigma.flatten().log() / 4, condition)
        c_out = sigma * SIGMA_DATA * total.rsqrt()
        denoised = SIGMA_DATA**2 / total * x + c_out * output
        loss = ((denoised - x_0) / c_out).square().mean()
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * SCHEDULE(i * batch_size)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        averaged.update(network, batch_size, (i + 1) * batch_size)
    return time.process_time() - start


class ProcessorTime(L.Callback):
    """Seconds of processor time from the first batch to the last."""

    seconds = 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.start = time.process_time()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.seconds = time.process_time() - self.start


def through_lightning(data: MNIST, batches: int) -> float:
    """Seconds of the same training through the Trainer, with the callbacks and the logger that `genai fit` adds."""
    model = Diffusion(
        SHAPE,
        10,
        unet,
        adam,
        preconditioning=EDM(SIGMA_DATA),
        conditional=True,
        lr_schedule=SCHEDULE,
        ema_halflife_kimg=30,
    )
    watch = ProcessorTime()
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            accelerator="cpu",
            max_epochs=1,
            limit_train_batches=batches,
            limit_val_batches=0,
            gradient_clip_val=1.0,
            logger=MetricsCSV(Path(folder)),
            callbacks=[ImagesSeenAxis(), CountedRandomness(0), Throughput(), watch],
            enable_checkpointing=False,
            enable_model_summary=False,
        )
        trainer.fit(model, datamodule=data)
    return watch.seconds


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=128)
    options = parser.parse_args()
    data = MNIST(batch_size=options.batch_size)
    split = data.split("train")
    images, labels = torch.from_numpy(split.images[:]), torch.from_numpy(split.labels[:])
    bare(images, labels, options.batch_size, 2)  # warm up
    rounds = []
    for _ in range(options.rounds):
        seconds = bare(images, labels, options.batch_size, options.batches)
        rounds.append((seconds, through_lightning(data, options.batches)))
    table = Table("round", "bare, ms/step", "genai, ms/step", "ratio", title=f"UNet of MNIST, batch {options.batch_size}")
    for i, (one, other) in enumerate(rounds):
        scale = 1000 / options.batches
        table.add_row(str(i + 1), f"{one * scale:.2f}", f"{other * scale:.2f}", f"{other / one:.3f}")
    ratio = statistics.median(other / one for one, other in rounds)
    table.caption = f"median ratio {ratio:.3f}; {torch.get_num_threads()} threads"
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
