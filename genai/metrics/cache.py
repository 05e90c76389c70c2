"""The folder of what is computed once: reference features, floors, feature networks trained here."""

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """$GENAI_CACHE, or the user's cache folder."""
    return Path(os.environ.get("GENAI_CACHE") or platformdirs.user_cache_dir("genai"))
