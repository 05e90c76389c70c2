"""Text from elsewhere, such as names in a run, so that printing it cannot steer a terminal."""

import re
from typing import Any

# C0 without tab and newline, DEL and C1: escape sequences begin with these. And marks that reverse the order of what is read.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """The text with U+FFFD for each character that would steer a terminal."""
    return CONTROLS.sub("\ufffd", text)


def all_visible(value: Any) -> Any:
    """`visible` for each str, keys too, of a value that was read from JSON."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {visible(key): all_visible(entry) for key, entry in value.items()}
    return [all_visible(entry) for entry in value] if isinstance(value, list) else value
