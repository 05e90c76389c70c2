"""genai: a Lightning-based, modular experiment suite for generative models.

`genai.load(RUN)` gives a trained model, in eval mode, from a run directory or a `zoo/` entry. `genai.RecordRun(PATH)` is a
callback that makes a run of a fit in Python.
Importing this package is cheap: torch is imported by the first attribute that needs it.
"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["RecordRun", "__version__", "load"]


def __getattr__(name: str) -> Any:
    if name == "RecordRun":
        from genai.training.callbacks.record import RecordRun

        return RecordRun
    if name == "load":
        from genai.runs import load

        return load
    raise AttributeError(f"module 'genai' has no attribute {name!r}")
