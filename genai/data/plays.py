"""Plays and poems: a folder of plain texts, one file for each work, split by work."""

from pathlib import Path
from typing import Any

from genai.data.module import data_roots
from genai.data.text import TextDataModule
from genai.data.text_reading import file_identity, read_text
from genai.data.text_splits import split_documents
from genai.data.token_cache import Documents, TextDocument
from genai.data.tokenizers import TokenizerKind
from genai.errors import UserError


class Plays(TextDataModule):
    """The works of an author: `<root>/plays/<author>/*.txt`, such as the plain texts of Project Gutenberg.

    Whole works are held out, a tenth for val and a tenth for test, since parts of one play share names and phrases.

    Args:
        author: name of the folder.
        root, tokens, bpe_size, context_length, batch_size, num_workers, seed: see `TextDataModule`.
    """

    name = "plays"

    def __init__(
        self,
        author: str = "shakespeare",
        root: str | None = None,
        tokens: TokenizerKind = "characters",
        bpe_size: int = 1024,
        context_length: int = 128,
        batch_size: int = 32,
        num_workers: int = 0,
        seed: int | None = None,
    ) -> None:
        super().__init__(root, tokens, bpe_size, context_length, batch_size, num_workers, seed)
        self.author = author
        self.name = f"plays-{author}"

    def files(self) -> list[Path]:
        """The files of the author's works; UserError if there are none."""
        folders = [root / "plays" / self.author for root in data_roots(self.root)]
        for folder in folders:
            if files := sorted(folder.glob("*.txt")):
                return files
        raise UserError(
            f"there are no texts in {' or '.join(map(str, folders))}: put one .txt file for each work there (Project Gutenberg "
            "has them), or set GENAI_DATA; PyDocs needs no files"
        )

    def source(self) -> Any:
        return file_identity(self.files())

    def documents(self) -> Documents:
        return split_documents([TextDocument(file.stem, read_text(file)) for file in self.files()], "document")
