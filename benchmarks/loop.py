"""A training step of the MLP GAN through Lightning against a bare PyTorch loop, in one run.

    python benchmarks/loop.py [--batches 200] [--rounds 5]

Both have the same networks, optimisers, batch size, averaged generator and data. Validation, galleries and checkpoints are off
on both sides.
"""

import time

import torch
from overhead import compare, parse_options, through_lightning
from torch.nn.functional import softplus

from genai.data.mnist import MNIST
from genai.images import to_float
from genai.models.ema import Averaged
from genai.models.gan.gan import GAN
from genai.networks.mlp import MLPDiscriminator, MLPGenerator

SHAPE = (1, 28, 28)


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


def main() -> None:
    """Measure and print a table."""
    options = parse_options(__doc__.splitlines()[0], batches=200)
    data = MNIST(batch_size=options.batch_size)
    images = torch.from_numpy(data.split("train").images[:])
    bare(images, options.batch_size, 20)  # warm up
    compare(
        "MLP GAN",
        lambda: bare(images, options.batch_size, options.batches),
        lambda: through_lightning(GAN(SHAPE, 10, MLPGenerator, MLPDiscriminator), data, options.batches, time.perf_counter),
        options,
    )


if __name__ == "__main__":
    main()
