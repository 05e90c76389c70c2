"""Standard output that can print any text, whatever its encoding."""

import codecs
import io
import sys

PLAIN = {"↑": "^", "↓": "v", "±": "+-", "→": "->", "×": "x", "–": "-", "…": "..."}


def print_any_text() -> None:
    """Have standard output replace what its encoding lacks: arrows by ASCII signs, all else by `?`, instead of raising."""
    codecs.register_error("genai-plain", replace)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="genai-plain")


def replace(error: UnicodeError) -> tuple[str, int]:
    """The error handler: text that can be encoded anywhere, and where to continue."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(PLAIN.get(sign, "?") for sign in error.object[error.start : error.end]), error.end
