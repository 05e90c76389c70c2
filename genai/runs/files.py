"""JSON files that are written whole or not at all."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genai.files import write_atomically


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON whole or not at all, lists of numbers in one line each."""
    text = json.dumps(content, indent=2)
    text = re.sub(r"\[\n[\s\d.,eE+-]*\]", lambda numbers: f"[{' '.join(numbers[0][1:-1].split())}]", text)
    write_atomically(path, text + "\n")


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
