"""The cache folder: reference features, floors, feature networks that the user trained."""

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """$GENAI_CACHE, or the user's cache folder."""
    return Path(os.environ.get("GENAI_CACHE") or platformdirs.user_cache_dir("genai"))


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` whole or not at all; several processes may write at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
