"""Whether a precision is slow on a device."""

from collections.abc import Mapping
from typing import Any

import torch

UNITS = ("avx512_bf16", "amx_bf16")  # bfloat16 instructions of x86 processors


def is_slow(precision: str, device: torch.device) -> bool:
    """Whether `precision` uses bfloat16 and `device` is an x86 processor known to have no bfloat16 instructions."""
    if device.type != "cpu" or "bf16" not in precision:
        return False
    known: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not in torch 2.11
    return known.get("architecture") == "x86_64" and not any(known[unit] for unit in UNITS)
