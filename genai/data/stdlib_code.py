"""The sources of Python's standard library: code without a download."""

import sys
import sysconfig
from pathlib import Path
from typing import Any

from genai.data.pydocs import refuse_root
from genai.data.text import TextDataModule
from genai.data.text_reading import file_identity, read_text
from genai.data.text_splits import split_documents
from genai.data.token_cache import Documents, TextDocument
from genai.data.tokenizers import TokenizerKind
from genai.errors import UserError


class StdlibCode(TextDataModule):
    """The top-level modules of Python's standard library, about 170 files and 4 MB, split by file.

    They differ between versions of Python, so scores of two versions cannot be compared.

    Args:
        tokens: bytes by default, since the sources have rare characters.
        options: of `TextDataModule`; `root` is refused: the files come with Python.

    Raises:
        UserError: `root` is given.
    """

    name = "stdlib-code"

    def __init__(self, *, tokens: TokenizerKind = "bytes", **options: Any) -> None:
        refuse_root(self.name, options)
        super().__init__(tokens=tokens, **options)

    def source(self) -> Any:
        return [sys.version.split()[0], *(row[1:] for row in file_identity(self.files()))]

    def files(self) -> list[Path]:
        """The modules' files; UserError where Python came without sources."""
        folder = Path(sysconfig.get_paths()["stdlib"])
        files = [file for file in sorted(folder.glob("*.py")) if file.stat().st_size]
        if len(files) < 20:
            raise UserError(f"{folder} has no sources of the standard library: use TextFiles, or a Python that has them")
        return files

    def documents(self) -> Documents:
        return split_documents([TextDocument(file.name, read_text(file)) for file in self.files()], "document")
