"""Inversion: the point of a latent space whose image is nearest to a picture."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from genai.control.spaces import EditSpace, Points
from genai.models.capabilities import Encodes

STEPS = 400  # of Adam
LEARNING_RATE = 0.1  # in standard deviations of the points
LOWEST_SIGMA = 0.1  # noise level that the sampler backwards begins with
PRIOR_WEIGHT = 2e-3  # of the squared distance from the mean, in variances


class Inverted(NamedTuple):
    """Points (N) whose images are near to pictures, and the root mean squared error of each image (N,), in [-1, 1]."""

    points: Points
    rmse: Tensor


def invert(space: EditSpace, pictures: Tensor, samples: Points, condition: Tensor | None) -> Inverted:
    """Points for pictures (N, C, H, W) in [-1, 1]: by the encoder, by the sampler backwards, otherwise by optimisation.

    The optimisation starts at the sample whose image is nearest and minimises the squared error plus a penalty for the distance
    from the mean of the samples, in variances of each coordinate, with Adam (Abdal et al. 2019, Image2StyleGAN,
    arXiv:1904.03189, equation 1, without the perceptual loss).

    Args:
        space: of the model.
        pictures: to be inverted.
        samples: points of the prior, some hundred or more.
        condition: of the pictures, for an encoder and its decoder; otherwise that of the nearest sample is used.
    """
    model: Any = space.model
    if isinstance(model, Encodes):
        points = Points(model.encode(pictures, condition), condition)
    elif space.name == "noise":
        points = Points(model.invert(pictures, condition, sigma_min=LOWEST_SIGMA).flatten(1), condition)
    else:
        points = optimised(space, pictures.to(samples.x.device), samples)
    error = space.decode(points) - pictures.cpu()
    return Inverted(points, error.square().mean(dim=(1, 2, 3)).sqrt())


def optimised(space: EditSpace, pictures: Tensor, samples: Points) -> Points:
    """See `invert`."""
    images = space.decode(samples).flatten(1)
    start = samples[torch.cdist(pictures.cpu().flatten(1), images).argmin(dim=1)]
    mean, std = samples.x.mean(dim=0), samples.x.std(dim=0).clamp(min=1e-3)
    offset = ((start.x - mean) / std).clone().requires_grad_(True)  # (N, E), in standard deviations
    optimizer = torch.optim.Adam([offset], lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        optimizer.zero_grad()
        error = space.images(Points(mean + std * offset, start.condition)) - pictures
        loss = (error.square().mean(dim=(1, 2, 3)) + PRIOR_WEIGHT * offset.square().mean(dim=1)).sum()
        loss.backward()
        optimizer.step()
        schedule.step()
    return Points((mean + std * offset).detach(), start.condition)
