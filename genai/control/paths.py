"""Paths between two latents. Each maps z_a, z_b (N, D) and shares t (K,) in [0, 1] to points (K, N, D)."""

from collections.abc import Callable

import torch
from torch import Tensor

Path = Callable[[Tensor, Tensor, Tensor], Tensor]
NEARLY_PARALLEL = 1e-4  # radians, below which slerp divides by about zero


def lerp(z_a: Tensor, z_b: Tensor, t: Tensor) -> Tensor:
    """The straight line."""
    return torch.lerp(z_a[None], z_b[None], t[:, None, None])


def slerp(z_a: Tensor, z_b: Tensor, t: Tensor) -> Tensor:
    """The arc of a great circle, which keeps the length that normal latents have (Shoemake 1985; White 2016, arXiv:1609.04468).

    Between nearly parallel latents it is the straight line.
    """
    cosine = torch.cosine_similarity(z_a, z_b, dim=1).clamp(-1, 1)
    omega = cosine.acos()[None, :, None]  # (1, N, 1)
    share = t[:, None, None]
    arc = (((1 - share) * omega).sin() * z_a + (share * omega).sin() * z_b) / omega.sin()
    return torch.where(omega.sin() < NEARLY_PARALLEL, lerp(z_a, z_b, t), arc)


PATHS: dict[str, Path] = {"slerp": slerp, "lerp": lerp}
