"""Lines of two or more authors' works, with the author as the label, split by work."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from genai.data.arrays import SPLITS, balanced
from genai.data.labelled import LabelledText
from genai.data.plays import Plays
from genai.data.token_cache import Documents, TextDocument
from genai.data.tokenizers import TokenizerKind

SHORTEST = 20  # characters of a line that counts: names of speakers and numbers are shorter


class Authors(LabelledText):
    """Lines of at least 20 characters from `<root>/plays/<author>/*.txt`, as many of each author; their works are split as in
    `Plays`, so that no work has lines in two splits.

    Args:
        classes: the authors: names of the folders.
        labels, tokens, context_length, batch_size, options: see `LabelledText`.
    """

    name = "authors"

    def __init__(
        self,
        classes: Sequence[str] = ("shakespeare", "milton"),
        labels: bool = True,
        tokens: TokenizerKind = "bytes",
        context_length: int = 64,
        batch_size: int = 64,
        **options: Any,
    ) -> None:
        super().__init__(
            classes=classes, labels=labels, tokens=tokens, context_length=context_length, batch_size=batch_size, **options
        )

    def works(self) -> list[Plays]:
        """The works of each author."""
        return [Plays(author, root=self.root) for author in self.class_names]

    def source(self) -> Any:
        return [works.source() for works in self.works()]

    def labelled_documents(self) -> Documents:
        lines: dict[str, list[TextDocument]] = {split: [] for split in SPLITS}
        for works in self.works():
            for split, documents in works.documents().items():
                for document in documents:
                    lines[split] += lines_of(document, works.author)
        return {split: same_number(lines[split], self.class_names) for split in SPLITS}


def lines_of(work: TextDocument, author: str) -> list[TextDocument]:
    """The lines of a work that are long enough and not in capitals alone, each a document with the author as its label."""
    lines = ((number, " ".join(line.split())) for number, line in enumerate(work.text.split("\n"), start=1))
    return [
        TextDocument(f"{work.name}:{number} {author}", line, author)
        for number, line in lines
        if len(line) >= SHORTEST and not line.isupper()
    ]


def same_number(lines: Sequence[TextDocument], authors: Sequence[str]) -> list[TextDocument]:
    """As many lines of each author as the one with the fewest has, at random."""
    lines = [lines[i] for i in np.random.default_rng(0).permutation(len(lines))]
    labels = np.array([authors.index(line.label) for line in lines], np.int64)
    fewest = int(np.bincount(labels, minlength=len(authors)).min())
    return [lines[i] for i in balanced(labels, fewest * len(authors))]
