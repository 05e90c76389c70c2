"""Documents -> train, val and test, by document or by position."""

import sys
import zlib
from collections.abc import Sequence
from typing import Literal, get_args

from genai.data.arrays import SPLITS, Split
from genai.data.token_cache import Documents, TextDocument
from genai.errors import UserError

SplitBy = Literal["auto", "document", "position"]
HELD_OUT = 0.1  # share of val, and of test
FEWEST_DOCUMENTS = 20  # that `auto` splits by document


def split_documents(documents: Sequence[TextDocument], split_by: SplitBy = "auto") -> Documents:
    """Documents -> train (80 %), val (10 %) and test (10 %). Copies of a document in two splits are counted on stderr.

    Args:
        documents: at least one.
        split_by: `document`: whole documents, chosen by a hash of their names, so that no document is in two splits;
            `position`: the first 80 % of each document are train, and so on; `auto`: by document if there are at least 20.

    Raises:
        UserError: there are too few documents to split them.
    """
    if split_by not in get_args(SplitBy):
        raise UserError(f"split_by {split_by!r} is not known: use {', '.join(get_args(SplitBy))}")
    by_document = split_by == "document" or (split_by == "auto" and len(documents) >= FEWEST_DOCUMENTS)
    if not by_document:
        return {split: [part(document, split) for document in documents] for split in SPLITS}
    if len(documents) < 3:
        raise UserError(f"{len(documents)} documents cannot be split into three: use 3 or more")
    ordered = sorted(documents, key=lambda document: (zlib.crc32(document.name.encode()), document.name))
    held_out = max(round(HELD_OUT * len(ordered)), 1)
    parts = {"train": ordered[2 * held_out :], "val": ordered[:held_out], "test": ordered[held_out : 2 * held_out]}
    texts = {document.text for document in parts["train"]}
    if copies := sum(document.text in texts for split in ("val", "test") for document in parts[split]):
        print(
            f"genai: {copies} documents of val and test are exact copies of documents of train, so scores are too good: "
            "remove the copies",
            file=sys.stderr,
        )
    return {split: sorted(parts[split]) for split in SPLITS}


def part(document: TextDocument, split: Split) -> TextDocument:
    """The part of a document that belongs to a split: its first 80 %, the next or the last 10 %."""
    shares = {"train": (0.0, 1 - 2 * HELD_OUT), "val": (1 - 2 * HELD_OUT, 1 - HELD_OUT), "test": (1 - HELD_OUT, 1.0)}
    start, stop = (round(share * len(document.text)) for share in shares[split])
    return document._replace(text=document.text[start:stop])
