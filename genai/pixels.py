"""The only place where stored pixels (uint8, 0..255) and model pixels (float, -1..1) meet."""

import torch
from torch import Tensor


def to_float(images: Tensor) -> Tensor:
    """uint8 in 0..255 -> float32 in [-1, 1], any shape; 0 becomes -1 and 255 becomes 1."""
    return images.to(torch.float32).div_(127.5).sub_(1.0)


def to_uint8(images: Tensor) -> Tensor:
    """Float in [-1, 1] -> uint8 in 0..255, any shape; values outside are clamped. Inverts `to_float` for all 256 values."""
    return images.to(torch.float32).add(1.0).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
