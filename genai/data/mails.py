"""Mails, spam or not: a CSV file of labels and texts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genai.data.labelled import LabelledText
from genai.data.module import data_roots
from genai.data.text_reading import file_identity, read_columns
from genai.data.text_splits import split_documents
from genai.data.token_cache import Documents, TextDocument
from genai.data.tokenizers import TokenizerKind
from genai.errors import UserError

FILES = ("spam/mails.csv.gz", "spam/mails.csv")
COLUMNS = ("label", "text")


class Mails(LabelledText):
    """Mails with a label each: `<root>/spam/mails.csv.gz`, or `root` itself, a CSV file with the columns label and text.

    A document is the text of one mail, split by mail. Its name is its number and its label.

    Args:
        root: the CSV file, or a folder that has one.
        tokens: bytes by default, since mails have rare characters.
        classes: names of the labels.
    """

    name = "mails"

    def __init__(self, classes: Sequence[str] = ("ham", "spam"), tokens: TokenizerKind = "bytes", **options: Any) -> None:
        super().__init__(classes=classes, tokens=tokens, **options)

    def file(self) -> Path:
        """The CSV file; UserError if there is none."""
        roots = data_roots(self.root)
        for path in (root / name for root in roots for name in ("", *FILES)):
            if path.is_file():
                return path
        raise UserError(
            f"there are no mails in {' or '.join(map(str, roots))}: give data.init_args.root a CSV file with the columns "
            f"{' and '.join(COLUMNS)}, or set GENAI_DATA to a folder with {FILES[0]}"
        )

    def source(self) -> Any:
        return file_identity([self.file()])

    def labelled_documents(self) -> Documents:
        rows = read_columns(self.file(), COLUMNS)
        found = [
            TextDocument(f"{number:06d} {label}", text, label) for number, (label, text) in enumerate(rows) if text.strip()
        ]
        return split_documents(found, "document")
