"""Freed memory stays in the process."""

import subprocess
import sys

import pytest

FAULTS = """
import ctypes, resource, sys
from genai.cli.memory import keep_freed_memory

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(10):
    arrays = [ctypes.c_void_p(libc.malloc(10 << 20)) for _ in range(8)]
    for array in arrays:
        ctypes.memset(array, 1, 10 << 20)
    for array in arrays:
        libc.free(array)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def page_faults(what: str) -> int:
    """Minor faults of a process that fills and frees eight arrays of 10 MiB ten times."""
    return int(subprocess.run([sys.executable, "-c", FAULTS, what], capture_output=True, check=True, text=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is Linux's")
def test_freed_memory_is_written_to_again_without_new_pages() -> None:
    """The arrays have 20,480 pages: got once where they are kept, and again each time where glibc decides."""
    once = 20_480
    assert once < page_faults("keep") < 2 * once
    assert page_faults("give back") > 5 * once
