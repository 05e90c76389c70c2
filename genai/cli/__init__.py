"""The command line: dispatch (main.py), shared options (options/) and one file for each verb (verbs/)."""

from genai.cli.main import main

__all__ = ["main"]
