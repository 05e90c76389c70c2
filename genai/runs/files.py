"""JSON files that are written whole or not at all."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genai.errors import DamagedFileError
from genai.files import cache_folder, locked, read_bounded, write_atomically

MAX_BYTES = 32_000_000  # of a JSON file of a run; those of long runs have some 10,000


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON whole or not at all, lists of numbers in one line each."""
    text = json.dumps(content, indent=2)
    text = re.sub(r"\[\n[\s\d.,eE+-]*\]", lambda numbers: f"[{' '.join(numbers[0][1:-1].split())}]", text)
    write_atomically(path, text + "\n")


def as_json_text(value: Any) -> str:
    """JSON for other programs: infinite and NaN scores, which JSON does not have, are null."""
    return json.dumps(finite(value), indent=2)


def finite(value: Any) -> Any:
    """A value of JSON with None in place of infinite and NaN numbers."""
    if isinstance(value, Mapping):
        return {key: finite(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [finite(own) for own in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; DamagedFileError where the file cannot be read or holds anything else."""
    try:
        content = json.loads(read_bounded(path, MAX_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DamagedFileError(f"{path} is damaged ({reason})") from None
    if not isinstance(content, dict):
        raise DamagedFileError(f"{path} is damaged (it holds no JSON object)")
    return content


def check_types(content: Mapping[str, Any], types: Mapping[str, type | tuple[type, ...]], path: Path) -> None:
    """Raise DamagedFileError unless `content`, read from `path`, has each key of `types`, with a value of that type.

    True and False are no numbers.
    """
    for name, expected in types.items():
        value = content.get(name)
        if not isinstance(value, expected) or isinstance(value, bool):
            found = "nothing" if name not in content else f"a {type(value).__name__}"
            raise DamagedFileError(f"{path} is damaged (it has {found} as {name})")


def is_numbers(values: Any, kind: type | tuple[type, ...] = (int, float)) -> bool:
    """Whether `values` is a list of numbers of that kind."""
    return isinstance(values, list) and all(isinstance(value, kind) and not isinstance(value, bool) for value in values)


def merge_json(path: Path, entries: dict[str, Any], keep: bool = False) -> None:
    """Set `entries` in the JSON object at `path`, keeping its others; the file is replaced whole.

    Processes that do this to one file wait for each other, so none undoes the entries of another.

    Args:
        path: of the file, which need not exist.
        entries: what to set.
        keep: append the values that are replaced to the list `earlier`.
    """
    with locked(lock_of(path)):
        content = read_object(path) if path.is_file() else {}
        replaced = [{key: content[key]} for key in entries if keep and content.get(key, entries[key]) != entries[key]]
        if replaced:
            earlier = content.get("earlier", [])
            if not isinstance(earlier, list):
                raise DamagedFileError(f"{path} is damaged (it has a {type(earlier).__name__} as earlier)")
            content["earlier"] = [*earlier, *replaced]
        write_json(path, {**content, **entries})


def lock_of(path: Path) -> Path:
    """The lock of a file: in $GENAI_CACHE or the cache folder of this user, where nobody else can put a link in its place."""
    return cache_folder() / "locks" / f"{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]}.lock"
