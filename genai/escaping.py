"""Text from elsewhere in Markdown and charts: it is shown as it is, and makes no link, image, heading, tag or formula."""

import re
from typing import Any

from genai.terminal import visible

PLAIN = re.compile(r"(?!.*www\.)(?!.*@\S*\.)[\w ,.+()±%/@-]*", re.IGNORECASE)  # neither a mark nor what renders as a link
MARKS = re.compile(r"([\\`*_{}\[\]()#!|<>&~$:@.])")


def one_line(text: object) -> str:
    """The text with a space for each line break or other white space."""
    return " ".join(str(text).split())


def literal(text: object) -> str:
    """The text in one line of Markdown, with each mark escaped; names and versions without marks stay as they are."""
    line = one_line(text)
    return line if PLAIN.fullmatch(line) else MARKS.sub(r"\\\1", line)


def literals(values: dict[str, Any]) -> dict[str, Any]:
    """`literal` for each str among the values."""
    return {name: literal(value) if isinstance(value, str) else value for name, value in values.items()}


def code(text: object, in_table: bool = False) -> str:
    """The text as code in one line of Markdown, between more backticks than it has in a row."""
    line = one_line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    space = " " if line.startswith("`") or line.endswith("`") or not line else ""
    return f"{fence}{space}{line.replace('|', chr(92) + '|') if in_table else line}{space}{fence}"


def in_chart(text: str) -> str:
    """The text for matplotlib, which would read what is between dollar signs as a formula."""
    return visible(text).replace("$", r"\$")
