"""How the process keeps freed memory."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # parameters of mallopt(3)
LARGEST_KEPT = 32 << 20  # bytes, the maximum that glibc accepts for M_MMAP_THRESHOLD
NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Have glibc keep freed arrays of up to 32 MiB, because the next training step needs as much again.

    By default glibc returns larger arrays to the system, and writing to fresh pages takes longer than many operations on
    them: benchmarks/memory.py measures it. With another C library this does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
        mallopt(M_TRIM_THRESHOLD, NEVER)
