"""Places that a run from elsewhere may read and write: its own folder, and no other."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from genai.errors import UserError
from genai.runs.trust import Policy

FOLDERS = ("dirpath", "default_root_dir", "save_dir", "root_dir", "log_dir")
WANDB_LINK = "debug-core.log"  # from each of its runs to its cache; it writes to neither of them again
READS_PICTURES_ALONE = "genai.data.image_folder.ImageFolder"  # other data modules download into their root, or unpickle


def check_places(config: dict[str, Any], run: Path, policy: Policy) -> None:
    """Raise UserError where a config from elsewhere chooses a place to read data from or to write to, outside of its run."""
    if policy.unrestricted:
        return
    data = config.get("data") or {}
    for keys, text in texts(data, ("data",)):
        if keys[-1] == "root" and data.get("class_path") != READS_PICTURES_ALONE:
            raise UserError(
                f"{policy.source} reads data in {text}, which its author chose: remove {'.'.join(keys)}, or give your own as "
                f"--{'.'.join(keys)}"
            )
    for keys, text in texts(config.get("trainer"), ("trainer",)):
        is_folder, path = keys[-1] in FOLDERS, Path(text)
        if not path.resolve().is_relative_to(run.resolve()) if is_folder else path.is_absolute() or ".." in path.parts:
            raise UserError(f"{policy.source} would write to {text}, outside of {run}: remove {'.'.join(keys)}")


def check_links(run: Path, policy: Policy) -> None:
    """Raise UserError where a run from elsewhere has a link that leads out of it; call it before files are written there."""
    if policy.unrestricted:
        return
    for path in run.rglob("*"):
        if path.is_symlink() and path.name != WANDB_LINK and not path.resolve().is_relative_to(run.resolve()):
            raise UserError(f"{path} is a link that leads out of {run}: remove it")


def texts(value: Any, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every str of a nested config, with its keys."""
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from texts(entry, (*keys, str(key)))
    elif isinstance(value, list):
        for entry in value:
            yield from texts(entry, keys)
    elif isinstance(value, str):
        yield keys, value
