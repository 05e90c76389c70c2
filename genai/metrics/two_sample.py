"""Two-sample test (Lopez-Paz and Oquab 2017, arXiv:1610.06545): can a small network tell samples from real images?"""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from genai.metrics.protocol import Comparison
from genai.metrics.registry import Estimate, metric

SEEDS = (0, 1, 2)
EPOCHS, BATCH_SIZE, MAX_IMAGES = 4, 64, 5000


@metric(title="Two-sample accuracy", better="lower", format=".3f", paper="arXiv:1610.06545", order=97)
def two_sample(sets: Comparison) -> Estimate | None:
    """Held-out accuracy of small networks trained to tell samples from reference images, on request: it takes a minute.

    0.5: they cannot tell them apart. 1: they always can. Mean and standard deviation over three seeds.
    """
    return None if sets.images is None else classifier_accuracy(*sets.images)


def classifier_accuracy(samples: Tensor, real: Tensor, seeds: tuple[int, ...] = SEEDS) -> Estimate:
    """Held-out accuracy of a fresh convolutional network: mean and standard deviation over seeds.

    0.5: it cannot tell them apart. 1: it always can. Each seed divides the images into halves, trains on one for four epochs
    and tests on the other.

    Args:
        samples, real: uint8 images (N, C, H, W) and (M, C, H, W), at least 4 each; min(N, M, 5,000) of each are
            used, chosen at random, since files are often in the order of their classes.
        seeds: of the halves, the initial weights and the order.
    """
    num = min(len(samples), len(real), MAX_IMAGES)
    with torch.inference_mode(False):  # `genai test` is in inference mode, and the networks are trained
        chosen = [part[torch.from_numpy(np.random.RandomState(0).permutation(len(part))[:num])] for part in (samples, real)]
        images = torch.cat(chosen).float() / 127.5 - 1
        targets = torch.cat([torch.zeros(num), torch.ones(num)])
        accuracies = [held_out_accuracy(images, targets, seed) for seed in seeds]
    return Estimate(float(np.mean(accuracies)), float(np.std(accuracies)))


def held_out_accuracy(images: Tensor, targets: Tensor, seed: int) -> float:
    """Train on half of the images (2N, C, H, W) with targets (2N,) 0 or 1; the accuracy on the other half.

    The learning rate decays to zero over the second half of the steps. With a constant one the running statistics of the batch
    normalisation lag behind, and the accuracy depends on the seed: 0.50 to 0.74 for a GAN, against 0.68 to 0.78.
    """
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        half = len(images) // 4  # of each class
        parts = [torch.randperm(2 * half) + start for start in (0, len(images) // 2)]
        train, test = (torch.cat([part[rows] for part in parts]) for rows in (slice(0, half), slice(half, None)))
        network = small_network(images.shape[1])
        optimizer = torch.optim.Adam(network.parameters(), 2e-3)
        num_steps = EPOCHS * math.ceil(len(train) / BATCH_SIZE)
        decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, 2 * (1 - step / num_steps)))
        for _ in range(EPOCHS):
            for rows in train[torch.randperm(len(train))].split(BATCH_SIZE):
                loss = binary_cross_entropy_with_logits(network(images[rows])[:, 0], targets[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                decay.step()
    network.eval()
    with torch.no_grad():
        logits = torch.cat([network(images[rows])[:, 0] for rows in test.split(500)])
    return ((logits > 0) == (targets[test] > 0.5)).double().mean().item()


def small_network(channels: int) -> nn.Module:
    """Three convolutions and a linear layer on their means: images of at least 4 pixels -> logits (N, 1)."""
    layers: list[nn.Module] = []
    for before, after in ((channels, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 1))
