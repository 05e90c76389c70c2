"""JSON files that are written whole or not at all."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock

from genai.errors import UserError
from genai.files import write_atomically


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON whole or not at all, lists of numbers in one line each."""
    text = json.dumps(content, indent=2)
    text = re.sub(r"\[\n[\s\d.,eE+-]*\]", lambda numbers: f"[{' '.join(numbers[0][1:-1].split())}]", text)
    write_atomically(path, text + "\n")


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; UserError where the file cannot be read or holds anything else."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} is damaged ({reason})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged (it holds no JSON object)")
    return content


def merge_json(path: Path, entries: dict[str, Any], keep: bool = False) -> None:
    """Set `entries` in the JSON object at `path`, keeping its others; the file is replaced whole.

    Processes that do this to one file wait for each other, so none undoes the entries of another.

    Args:
        path: of the file, which need not exist.
        entries: what to set.
        keep: append the values that are replaced to the list `earlier`.
    """
    with FileLock(lock_of(path)):
        content = read_object(path) if path.is_file() else {}
        replaced = [{key: content[key]} for key in entries if keep and content.get(key, entries[key]) != entries[key]]
        if replaced:
            content["earlier"] = [*content.get("earlier", []), *replaced]
        write_json(path, {**content, **entries})


def lock_of(path: Path) -> Path:
    """The lock of a file: in $GENAI_CACHE or the cache folder of this user, where nobody else can put a link in its place."""
    folder = Path(os.environ.get("GENAI_CACHE") or platformdirs.user_cache_dir("genai")) / "locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be made ({error.strerror}): set GENAI_CACHE to a folder that can be written"
        ) from None
    return folder / f"{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]}.lock"
