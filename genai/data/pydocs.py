"""The reference of the Python language, which every Python has: English text without a download."""

import sys
from typing import Any

from genai.data.text import TextDataModule
from genai.data.text_splits import split_documents
from genai.data.token_cache import Documents, TextDocument, content_of


class PyDocs(TextDataModule):
    """The topics of Python's `help()`, from `pydoc_data.topics`: 0.45 million characters in 3.11, split by topic.

    The text differs between versions of Python, so scores of two versions cannot be compared.

    Args:
        root: not used: the text comes with Python.
    """

    name = "pydocs"

    def source(self) -> Any:
        return [sys.version.split()[0], content_of(list(topics().values()))]

    def documents(self) -> Documents:
        return split_documents([TextDocument(name, plain(text)) for name, text in sorted(topics().items())], "document")


def topics() -> dict[str, str]:
    """The topics' texts by name."""
    from pydoc_data.topics import topics as found

    return dict(found)


def plain(text: str) -> str:
    """ASCII text: quotation marks, dashes and the like as in a terminal, other characters left out."""
    table = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "--", "…": "...", "·": "*", "×": "x"})
    return text.translate(table).encode("ascii", "ignore").decode()
