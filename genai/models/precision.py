"""What a device computes in quickly."""

from collections.abc import Mapping
from typing import Any

import torch

UNITS = ("avx512_bf16", "amx_bf16")  # instructions of x86 processors


def is_slow(precision: str, device: torch.device) -> bool:
    """Whether `precision` has bfloat16, and `device` is an x86 processor that is known to have no instructions for it."""
    if device.type != "cpu" or "bf16" not in precision:
        return False
    known: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.11 does not say
    return known.get("architecture") == "x86_64" and not any(known[unit] for unit in UNITS)
