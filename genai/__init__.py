"""genai: a Lightning-based, modular experiment suite for generative models.

    genai.load(RUN)                   a trained model, in eval mode, from a run directory or a zoo entry
    genai.sample(RUN, num=64)         images of a run or a model, (N, C, H, W) in [-1, 1]
    genai.evaluate(images, "mnist")   every metric of images against a dataset, with floors; prints as a table
    genai.RecordRun(PATH)             a Lightning callback: a fit in Python leaves a run that the verbs read

Importing this package is cheap: the first attribute that needs torch imports it.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genai.report.evaluate import evaluate
    from genai.runs import load
    from genai.runs.sampling import sample
    from genai.training.callbacks.record import RecordRun

__version__ = "0.2.0"

# Libraries send reports of errors and of usage, also where no account is configured. They read these when they are imported.
NO_TELEMETRY = {
    "WANDB_ERROR_REPORTING": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "DO_NOT_TRACK": "1",
}
for _name, _value in NO_TELEMETRY.items():
    os.environ.setdefault(_name, _value)

__all__ = ["RecordRun", "__version__", "evaluate", "load", "sample"]

_MODULES = {
    "RecordRun": "genai.training.callbacks.record",
    "evaluate": "genai.report.evaluate",
    "load": "genai.runs",
    "sample": "genai.runs.sampling",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'genai' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
