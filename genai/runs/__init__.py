"""The run directory."""

from genai.runs.directory import (
    REPOSITORY,
    Run,
    all_runs,
    create,
    find,
    is_run,
    load,
    merge_json,
    runs_folder,
    write_json,
)

__all__ = ["REPOSITORY", "Run", "all_runs", "create", "find", "is_run", "load", "merge_json", "runs_folder", "write_json"]
