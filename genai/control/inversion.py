"""Inversion: the point of a latent space whose image is nearest to a picture.

`invert` is for edits: any space, differentiable decoders. `latents_of` is for watermarks: the latents that `sample` decodes, to
the precision of the solver, from several starts.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from genai.control.spaces import EditSpace, Points
from genai.models.capabilities import Decodes, Encodes
from genai.models.seeds import image_seeds

STEPS = 400  # of Adam
LEARNING_RATE = 0.1  # in standard deviations of the points
LOWEST_SIGMA = 0.1  # noise level that the sampler backwards begins with
PRIOR_WEIGHT = 2e-3  # of the squared distance from the mean, in variances
STARTS, SOLVER_STEPS, DIFFERENCE = 8, 30, 1e-2  # of `latents_of`: starts, steps of the solver, difference quotient
NORMAL_WEIGHT = 1e-3  # of |z|^2, per pixel of the squared error


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


# -- latents of a watermark ---------------------------------------------------------------------------------------------------


@torch.no_grad()
def latents_of(model: Decodes, images: Tensor, condition: Tensor | None = None) -> Tensor:
    """Latents (N, D) whose decoded images are close to images (N, C, H, W) in [-1, 1].

    A model with an encoder encodes them. For others the Levenberg-Marquardt method minimises the mean squared error plus a
    standard normal prior, with the Jacobian from difference quotients, from the best of random starts.

    Args:
        model: has `decode`, and maybe `encode`.
        images: of the model's shape.
        condition: (N,) classes or (N, K) attributes, see `Decodes.decode`.
    """
    if isinstance(model, Encodes):
        return model.encode(images, condition)
    starts = model.latents(image_seeds(0, 64 * STARTS)).float()
    decoded = model.decode(starts, None if condition is None else condition[:1].expand(len(starts), *condition.shape[1:]))
    found = []
    for i, image in enumerate(images.to(decoded)):
        errors = (decoded - image).square().mean(dim=(1, 2, 3))
        own = None if condition is None else condition[i : i + 1]
        results = [solved(model, image, z, own) for z in starts[errors.argsort()[:STARTS]]]
        found.append(min(results, key=lambda result: result[0])[1])
    return torch.stack(found)


def solved(model: Decodes, image: Tensor, z: Tensor, condition: Tensor | None) -> tuple[float, Tensor]:
    """The objective and the latent (D,) that Levenberg-Marquardt finds from z (D,) for one image (C, H, W)."""
    dim, damping = len(z), 1e-2
    scale = image.numel() ** -0.5

    def residuals(points: Tensor) -> Tensor:
        """(M, D) -> (M, pixels + D): errors of the pixels and of the prior."""
        labels = None if condition is None else condition.expand(len(points), *condition.shape[1:])
        errors = (model.decode(points, labels) - image).flatten(1) * scale
        return torch.cat([errors, NORMAL_WEIGHT**0.5 * points], dim=1)

    steps = DIFFERENCE * torch.eye(dim, device=z.device)
    value = residuals(z[None])[0]
    for _ in range(SOLVER_STEPS):
        jacobian = (residuals(z + steps) - value).T / DIFFERENCE  # (pixels + D, D)
        normal = jacobian.T @ jacobian
        move = torch.linalg.solve(normal + damping * torch.eye(dim, device=z.device), -jacobian.T @ value)
        new = residuals((z + move)[None])[0]
        if new.square().sum() < value.square().sum():
            z, value, damping = z + move, new, damping / 3
        else:
            damping *= 4
    return float(value.square().sum()), z
