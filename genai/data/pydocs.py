"""The reference of the Python language, which every Python has: English text without a download."""

import sys
from typing import Any

from genai.data.text import TextDataModule
from genai.data.text_splits import split_documents
from genai.data.token_cache import Documents, TextDocument, content_of
from genai.errors import UserError


class PyDocs(TextDataModule):
    """The topics of Python's `help()`, from `pydoc_data.topics`: 0.45 million characters in 3.11, split by topic.

    The text differs between versions of Python, so scores of two versions cannot be compared.

    Args:
        options: of `TextDataModule`; `root` is refused: the text comes with Python.

    Raises:
        UserError: `root` is given.
    """

    name = "pydocs"

    def __init__(self, **options: Any) -> None:
        refuse_root(self.name, options)
        super().__init__(**options)

    def source(self) -> Any:
        return [sys.version.split()[0], content_of(list(topics().values()))]

    def documents(self) -> Documents:
        return split_documents([TextDocument(name, plain(text)) for name, text in sorted(topics().items())], "document")


def refuse_root(name: str, options: dict[str, Any]) -> None:
    """Raise UserError for the option `root` of data that come with Python."""
    if options.get("root") is not None:
        raise UserError(f"{name} reads no files, its text comes with Python: add --data TextFiles for {options['root']}")


def topics() -> dict[str, str]:
    """The topics' texts by name."""
    from pydoc_data.topics import topics as found

    return dict(found)


def plain(text: str) -> str:
    """ASCII text: quotation marks, dashes and the like as in a terminal, other characters left out."""
    table = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "--", "…": "...", "·": "*", "×": "x"})
    return text.translate(table).encode("ascii", "ignore").decode()
