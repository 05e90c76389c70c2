"""What a device computes in quickly."""

import torch


def is_slow(precision: str, device: torch.device) -> bool:
    """Whether `precision` has bfloat16, and `device` is an x86 processor on which torch has no fast code for it."""
    return device.type == "cpu" and "bf16" in precision and torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2")
