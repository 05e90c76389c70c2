"""The cache folder: reference features, floors, feature networks trained by the user."""

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """$GENAI_CACHE, or the user's cache folder."""
    return Path(os.environ.get("GENAI_CACHE") or platformdirs.user_cache_dir("genai"))
