"""What a checkpoint has to hold before Lightning restores it: each part is refused in one line where it has another form."""

import re
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from genai.errors import DamagedFileError
from genai.runs.files import check_types
from genai.training.callbacks.options import OPTIMIZER_CLASSES

COUNTS = ("epoch", "global_step", "images_seen")
PARTS: dict[str, type] = {"loops": dict, "callbacks": dict, "optimizer_states": list, "lr_schedulers": list}  # of dicts
POSITION = ("epoch", "batches", "seed", "batch_size", "world_size")  # of the data order
MAX_COUNT = 2**53  # of images, steps and epochs
VALUES = (Tensor, int, float, bool, type(None))  # of an optimiser's state, and lists of them


def check_content(checkpoint: dict[str, Any], path: Path) -> None:
    """Raise DamagedFileError where a part of a checkpoint is missing, or is not what Lightning restores.

    Args:
        checkpoint: what the file at `path` holds.
        path: for messages.
    """
    kinds: dict[str, type] = {**dict.fromkeys(COUNTS, int), **PARTS}
    check_types(checkpoint, kinds | ({OPTIMIZER_CLASSES: list} if OPTIMIZER_CLASSES in checkpoint else {}), path)
    check_counts({name: checkpoint[name] for name in COUNTS}, path)
    for name in PARTS:
        parts = checkpoint[name].items() if isinstance(checkpoint[name], dict) else enumerate(checkpoint[name])
        for part, value in parts:
            if not isinstance(part, str | int) or not isinstance(value, dict):
                raise DamagedFileError(f"{path} is damaged (it has a {type(value).__name__} as {name}, {part!s:.40})")
    check_types(checkpoint["loops"], {"fit_loop": dict}, path)
    version = checkpoint.get("pytorch-lightning_version")
    if not isinstance(version, str) or not re.fullmatch(r"\d{1,4}\.\d{1,4}[\w.+-]{,40}", version):
        raise DamagedFileError(f"{path} is damaged (it has no version of Lightning)")


def check_counts(counts: dict[str, Any], path: Path) -> None:
    """Raise DamagedFileError unless each is an integer from 0 to 2^53."""
    check_types(counts, dict.fromkeys(counts, int), path)
    for name, count in counts.items():
        if not 0 <= count < MAX_COUNT:
            raise DamagedFileError(f"{path} is damaged (it has {count} as {name})")


def check_position(state: Any, path: Path) -> None:
    """Raise DamagedFileError unless `state` is that of a data module: empty, or a position in the training order."""
    if state is not None and not isinstance(state, dict):
        raise DamagedFileError(f"{path} is damaged (it has a {type(state).__name__} as the position in its data)")
    if state:
        check_counts({name: state.get(name) for name in POSITION}, path)
        check_types(state, {"fingerprint": str} if "fingerprint" in state else {}, path)


def check_optimizer_state(state: dict[str, Any], optimizer: Optimizer, path: Path) -> None:
    """Raise DamagedFileError unless the state of an optimiser has groups of parameters, and numbers for each parameter.

    An option of a group may be a word only where that of `optimizer` is one, such as Muon's `adjust_lr_fn`.
    """
    words = {name for group in optimizer.param_groups for name, value in group.items() if isinstance(value, str)}
    groups, states = state.get("param_groups"), state.get("state")
    if not isinstance(groups, list) or not groups or not all(isinstance(group, dict) for group in groups):
        raise DamagedFileError(f"{path} is damaged (an optimiser has no param_groups)")
    options = [(name, value) for group in groups for name, value in group.items()]
    for name, value in options:
        if not isinstance(name, str) or isinstance(value, dict) or (isinstance(value, str) and name not in words):
            raise DamagedFileError(f"{path} is damaged (an optimiser has no number as {name!s:.40})")
    if not isinstance(states, dict) or not all(isinstance(own, dict) for own in states.values()):
        raise DamagedFileError(f"{path} is damaged (an optimiser has no state)")
    for name, value in ((name, value) for own in states.values() for name, value in own.items()):
        if not all(isinstance(part, VALUES) for part in (value if isinstance(value, list | tuple) else [value])):
            raise DamagedFileError(f"{path} is damaged (an optimiser has a {type(value).__name__} as {name!s:.40})")


def check_moments(optimizer: Optimizer, path: Path) -> None:
    """Raise DamagedFileError unless each tensor in a fused optimiser's loaded state has the shape of its parameter.

    Its kernel does not look: it would read and write beyond the end of a shorter tensor. `step` is one number.
    """
    fused = [p for group in optimizer.param_groups if group.get("fused") for p in group["params"]]
    for parameter in fused:
        for name, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor) and value.shape != (() if name == "step" else parameter.shape):
                shape = " x ".join(map(str, value.shape)) or "a number"
                raise DamagedFileError(f"{path} is damaged (an optimiser has {shape} as {name!s:.40} of a parameter)")


def check_like(value: Any, template: Any, path: Path, name: str) -> None:
    """Raise DamagedFileError unless `value` has the form of `template`: its keys, and a count or a bool where it has one.

    Args:
        value: a part of the checkpoint at `path`.
        template: what Lightning would write now.
        path: for messages.
        name: of the part.
    """
    if isinstance(template, dict):
        missing = [key for key in template if not isinstance(value, dict) or key not in value]
        if missing or not isinstance(value, dict):
            raise DamagedFileError(f"{path} is damaged (it has no {name}{f', {missing[0]}' if missing else ''})")
        for key, part in template.items():
            check_like(value[key], part, path, f"{name}, {key}")
    elif isinstance(template, bool):
        if not isinstance(value, bool):
            raise DamagedFileError(f"{path} is damaged (it has a {type(value).__name__} as {name})")
    elif isinstance(template, int):
        check_counts({name: value}, path)
