"""How much memory there is: what does not fit is refused in one line before it is computed."""

import contextlib
import os
from pathlib import Path

from genai.errors import UserError

LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))  # of a container or a job


def memory_bytes() -> int:
    """The memory that this process may use: that of the machine, or less in a container or a job of a cluster."""
    sizes = []
    if "SC_PHYS_PAGES" in os.sysconf_names:
        sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for path in LIMITS:
        with contextlib.suppress(OSError, ValueError):  # no limit, or another system
            sizes.append(int(path.read_text()))
    return min(sizes, default=2**62)


def check_memory(num_bytes: int, what: str, advice: str) -> None:
    """Raise UserError if `num_bytes` of the arrays of `what` do not fit into the memory."""
    if num_bytes > memory_bytes():
        raise UserError(
            f"{what} need {num_bytes / 1e9:,.1f} GB of memory, and there are {memory_bytes() / 1e9:,.1f} GB here: {advice}"
        )
