"""Files that are written whole or not at all."""

import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it reaches the disk and takes the place of `path` where no error was raised.

    The name is random, so that two writers do not write into the same file; an error, or Ctrl-C, removes it.
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON whole or not at all, lists of numbers in one line each."""
    text = json.dumps(content, indent=2)
    text = re.sub(r"\[\n[\s\d.,eE+-]*\]", lambda numbers: f"[{' '.join(numbers[0][1:-1].split())}]", text)
    write_text(path, text + "\n")


def merge_json(path: Path, entries: dict[str, Any], keep: bool = False) -> None:
    """Set `entries` in the JSON object at `path`, keeping its others; the file is replaced whole.

    Args:
        path: of the file, which need not exist.
        entries: what to set.
        keep: append the values that are replaced to the list `earlier`.
    """
    content = json.loads(path.read_text()) if path.is_file() else {}
    replaced = [{key: content[key]} for key in entries if keep and content.get(key, entries[key]) != entries[key]]
    if replaced:
        content["earlier"] = [*content.get("earlier", []), *replaced]
    write_json(path, {**content, **entries})
