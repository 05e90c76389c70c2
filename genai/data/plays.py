"""Plays and poems: a folder of plain texts, one file for each work, split by work."""

from pathlib import Path
from typing import Any

from genai.data.module import data_roots
from genai.data.text import TextDataModule
from genai.data.text_reading import file_identity, read_text
from genai.data.text_splits import split_documents
from genai.data.token_cache import Documents, TextDocument
from genai.errors import UserError


class Plays(TextDataModule):
    """The works of an author: `<root>/plays/<author>/*.txt`, such as the plain texts of Project Gutenberg.

    Whole works are held out, a tenth for val and a tenth for test, since parts of one play share names and phrases.

    Args:
        author: name of the folder.
    """

    name = "plays"

    def __init__(self, author: str = "shakespeare", **options: Any) -> None:
        super().__init__(**options)
        self.author = author
        self.name = f"plays-{author}"

    def files(self) -> list[Path]:
        """The files of the author's works; UserError if there are none."""
        folders = [root / "plays" / self.author for root in data_roots(self.root)]
        for folder in folders:
            if files := sorted(path for path in folder.glob("*") if path.suffix.lower() == ".txt"):
                return files
        raise UserError(
            f"there are no texts in {' or '.join(map(str, folders))}: put one .txt file for each work there (Project Gutenberg "
            "has them), or set GENAI_DATA; PyDocs needs no files"
        )

    def source(self) -> Any:
        return file_identity(self.files())

    def documents(self) -> Documents:
        return split_documents([TextDocument(file.stem, read_text(file)) for file in self.files()], "document")
