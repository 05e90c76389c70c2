"""Your own text: a .txt or .jsonl file, or a folder of them."""

from pathlib import Path
from typing import Any

from genai.data.text import TextDataModule
from genai.data.text_reading import file_identity, read_json_lines, read_text
from genai.data.text_splits import SplitBy, split_documents
from genai.data.token_cache import Documents, TextDocument
from genai.data.tokenizers import TokenizerKind
from genai.errors import UserError

ENDINGS = (".txt", ".md", ".jsonl")


class TextFiles(TextDataModule):
    """Files in UTF-8: .txt and .md are one document each, .jsonl one document for each line.

    Args:
        root: a file, or a folder with files at any depth; hidden ones are left out.
        split_by: `document`, `position` (the last tenths of each document are val and test), or `auto`: by document if there
            are at least 20.
        field: where a line of a .jsonl file has its text.
        tokens: bytes by default: a model then knows every character.
    """

    def __init__(
        self,
        root: str,
        split_by: SplitBy = "auto",
        field: str = "text",
        tokens: TokenizerKind = "bytes",
        **options: Any,
    ) -> None:
        super().__init__(root=root, tokens=tokens, **options)
        self.folder = Path(root)
        self.split_by: SplitBy = split_by
        self.field = field
        self.name = f"text-{self.folder.stem}"

    def files(self) -> list[Path]:
        """The text files; UserError if there are none."""
        if self.folder.is_file():
            return [self.folder]
        found = sorted(path for path in self.folder.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())
        files = [path for path in found if not any(name.startswith(".") for name in path.relative_to(self.folder).parts)]
        if not files:
            what = "has no text files" if self.folder.is_dir() else "does not exist"
            raise UserError(
                f"{self.folder} {what}: put {', '.join(ENDINGS)} files into it, or give another data.init_args.root"
            )
        return files

    def options(self) -> dict[str, Any]:
        return {"folder": str(self.folder.resolve()), "split_by": self.split_by, "field": self.field}

    def source(self) -> Any:
        return file_identity(self.files())

    def documents(self) -> Documents:
        found: list[TextDocument] = []
        for file in self.files():
            if file.name.lower().removesuffix(".gz").endswith(".jsonl"):
                found += read_json_lines(file, self.field)
            else:
                found.append(
                    TextDocument(file.name if file == self.folder else str(file.relative_to(self.folder)), read_text(file))
                )
        if not found:
            raise UserError(f"{self.folder} has no text: every line of it is empty")
        return split_documents(found, self.split_by)
