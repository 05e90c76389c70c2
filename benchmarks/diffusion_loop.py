"""A training step of the MNIST diffusion model through Lightning against a bare PyTorch loop, in one run.

    python benchmarks/diffusion_loop.py [--batches 20] [--rounds 5]

Both train the UNet of configs/mnist/diffusion.yaml with the same loss, optimiser, gradient clipping, learning-rate schedule,
averaged weights, batch size and data, in float32. Validation, galleries and checkpoints are off on both sides. The times are
processor time, so that other programs on the machine affect the ratio little.
"""

import time
from functools import partial

import torch
from overhead import compare, parse_options, through_lightning
from torch.nn.functional import one_hot

from genai.data.mnist import MNIST
from genai.images import to_float
from genai.models.diffusion.diffusion import Diffusion
from genai.models.diffusion.preconditioning import EDM
from genai.models.ema import Averaged
from genai.models.schedules import Cosine
from genai.networks.unet import UNet

SHAPE = (1, 28, 28)
SIGMA_DATA = 0.616
SCHEDULE = Cosine(kimg=800, start=1.0, end=0.01, warmup_kimg=20)
unet = partial(UNet, channels=[64, 128], num_blocks=1, patch_size=2, attention=0, embedding_dim=128)
adam = partial(torch.optim.Adam, lr=2e-3, betas=(0.9, 0.99), fused=True)


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


def model() -> Diffusion:
    """The model of configs/mnist/diffusion.yaml."""
    return Diffusion(
        SHAPE,
        10,
        unet,
        adam,
        preconditioning=EDM(SIGMA_DATA),
        conditional=True,
        lr_schedule=SCHEDULE,
        ema_halflife_kimg=30,
    )


def main() -> None:
    """Measure and print a table."""
    options = parse_options(__doc__.splitlines()[0], batches=20)
    data = MNIST(batch_size=options.batch_size)
    split = data.split("train")
    images, labels = torch.from_numpy(split.images[:]), torch.from_numpy(split.labels[:])
    bare(images, labels, options.batch_size, 2)  # warm up
    compare(
        "UNet of MNIST",
        lambda: bare(images, labels, options.batch_size, options.batches),
        lambda: through_lightning(model(), data, options.batches, time.process_time, gradient_clip_val=1.0),
        options,
    )


if __name__ == "__main__":
    main()
