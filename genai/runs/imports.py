"""What a config could import."""

import re
from collections.abc import Iterator
from typing import Any

DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
FILES = ("zip", "tar", "gz", "tgz", "png", "jpg", "txt", "csv", "npz", "ckpt", "safetensors", "json", "yaml", "pt", "pth")


def import_paths(config: Any) -> Iterator[str]:
    """Every string of a nested config that could be imported: each `class_path`, and others that look like one."""
    if isinstance(config, dict):
        if "class_path" in config:
            yield str(config["class_path"])
        for value in config.values():
            yield from import_paths(value)
    elif isinstance(config, list):
        for value in config:
            yield from import_paths(value)
    elif isinstance(config, str) and DOTTED.fullmatch(config) and not config.endswith(FILES):
        yield config
