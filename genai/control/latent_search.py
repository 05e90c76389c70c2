"""The latent vector of an image, for models with a decoder: from their encoder, or by least squares."""

import torch
from torch import Tensor

from genai.models.capabilities import Decodes, Encodes
from genai.models.seeds import image_seeds

STARTS, STEPS, STEP = 8, 30, 1e-2  # latents to start from; steps of the solver; difference quotient
PRIOR_WEIGHT = 1e-3  # of |z|^2, per pixel of the squared error


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
        return torch.cat([errors, PRIOR_WEIGHT**0.5 * points], dim=1)

    steps = STEP * torch.eye(dim, device=z.device)
    value = residuals(z[None])[0]
    for _ in range(STEPS):
        jacobian = (residuals(z + steps) - value).T / STEP  # (pixels + D, D)
        normal = jacobian.T @ jacobian
        move = torch.linalg.solve(normal + damping * torch.eye(dim, device=z.device), -jacobian.T @ value)
        new = residuals((z + move)[None])[0]
        if new.square().sum() < value.square().sum():
            z, value, damping = z + move, new, damping / 3
        else:
            damping *= 4
    return float(value.square().sum()), z
