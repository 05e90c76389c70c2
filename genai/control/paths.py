"""Paths between two latents. Each maps z_a, z_b (N, D) and positions t (K,) in [0, 1] to latents (K, N, D)."""

from collections.abc import Callable

import torch
from torch import Tensor

Path = Callable[[Tensor, Tensor, Tensor], Tensor]
NEARLY_PARALLEL = 1e-4  # radians; slerp divides by about zero below this angle


def lerp(z_a: Tensor, z_b: Tensor, t: Tensor) -> Tensor:
    """Linear interpolation."""
    return torch.lerp(z_a[None], z_b[None], t[:, None, None])


def slerp(z_a: Tensor, z_b: Tensor, t: Tensor) -> Tensor:
    """Spherical interpolation (Shoemake 1985; White 2016, arXiv:1609.04468): keeps the norm that normal latents have.

    Nearly parallel latents are interpolated linearly.
    """
    cosine = torch.cosine_similarity(z_a, z_b, dim=1).clamp(-1, 1)
    omega = cosine.acos()[None, :, None]  # (1, N, 1)
    t_col = t[:, None, None]
    arc = (((1 - t_col) * omega).sin() * z_a + (t_col * omega).sin() * z_b) / omega.sin()
    return torch.where(omega.sin() < NEARLY_PARALLEL, lerp(z_a, z_b, t), arc)


PATHS: dict[str, Path] = {"slerp": slerp, "lerp": lerp}
