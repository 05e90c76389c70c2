"""What the process does with memory that is free again."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
LARGEST_KEPT = 32 << 20  # bytes, the most that glibc takes for the second
NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Have glibc keep freed arrays of up to 32 MiB for the next step of a training, which needs as much again.

    Left alone it hands larger ones back to the system each time, and writing to fresh pages costs more than many an operation
    on them: benchmarks/memory.py. Nothing happens where the C library is another one.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
        mallopt(M_TRIM_THRESHOLD, NEVER)
