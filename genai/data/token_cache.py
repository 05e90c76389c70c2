"""The tokens of a dataset on disk: one memory-mapped array of all documents, written once, whole or not at all."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from genai.data.arrays import SPLITS, Split
from genai.data.cache import decoded_folder, digest, key_of, lock, new_folder
from genai.data.tokenizers import TextTokenizer, from_spec
from genai.errors import UserError
from genai.files import os_errors_as_write_errors, write_atomically

TOKENS, META = "tokens.npy", "documents.json"


class TextDocument(NamedTuple):
    """A document: its name, such as the name of its file, its text, and its label where documents have one."""

    name: str
    text: str
    label: str = ""


Documents = Mapping[Split, Sequence[TextDocument]]


class Span(NamedTuple):
    """Where a document lies in the tokens of its split."""

    name: str
    start: int
    stop: int
    label: str


@dataclass(frozen=True)
class TokenSplit:
    """One split: `tokens` (L,) uint16 or uint32, memory-mapped, document after document, and the documents' places."""

    tokens: np.ndarray
    documents: tuple[Span, ...]

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class TokenEntry:
    """An open entry: the tokenizer, the splits and a hash of the tokens."""

    tokenizer: TextTokenizer
    splits: Mapping[Split, TokenSplit]
    sha256: str


Build = Callable[[], tuple[Documents, TextTokenizer]]


def open_or_build_tokens(name: str, options: Mapping[str, Any], source: Any, build: Build) -> TokenEntry:
    """The entry of the dataset `name`, built if it is missing or was built from another source.

    Args:
        name: of the dataset.
        options: what determines the tokens besides the source (JSON); part of the entry's key.
        source: what identifies the files that the documents come from (JSON).
        build: reads the documents and trains the tokenizer on those of the training split.
    """
    folder = decoded_folder() / f"{name}-{key_of(options)}"
    source = json.loads(json.dumps(source))
    entry = read_entry(folder, source)
    if entry is None:
        with lock(folder.name):
            entry = read_entry(folder, source)
            if entry is None:
                write_entry(folder, source, *build())
                entry = read_entry(folder, source)
    assert entry is not None
    return entry


def write_entry(folder: Path, source: Any, documents: Documents, tokenizer: TextTokenizer) -> None:
    """Encode the documents; the caller holds the entry's lock."""
    with new_folder(folder) as temporary:
        parts, places = [], {}
        for split in SPLITS:
            places[split] = [[document.name, 0, document.label] for document in documents[split]]
            for document, place in zip(documents[split], places[split], strict=True):
                parts.append(encode_document(document, tokenizer))
                place[1] = len(parts[-1])
        tokens = np.concatenate(parts).astype(np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32)
        with os_errors_as_write_errors(folder):
            np.save(temporary / TOKENS, tokens)
        meta = {"source": source, "tokenizer": tokenizer.spec(), "documents": places, "sha256": digest(temporary / TOKENS)}
        write_atomically(temporary / META, json.dumps(meta))


def encode_document(document: TextDocument, tokenizer: TextTokenizer) -> np.ndarray:
    """The tokens of a document and its end; UserError, with its name, for a character that is not in the vocabulary."""
    try:
        tokens = tokenizer.encode(document.text)
    except UserError as error:
        raise UserError(f"{document.name}: {error}") from None
    return tokens if tokenizer.end is None else np.append(tokens, tokenizer.end)


def read_entry(folder: Path, source: Any) -> TokenEntry | None:
    """The entry, or None if there is none or it was built from another source."""
    try:
        meta = json.loads((folder / META).read_text())
        tokens = np.load(folder / TOKENS, mmap_mode="r")
    except (OSError, ValueError):
        return None
    if meta["source"] != source:
        return None
    splits: dict[Split, TokenSplit] = {}
    start = 0
    for split in SPLITS:
        spans, at = [], 0
        for name, length, label in meta["documents"][split]:
            spans.append(Span(name, at, at + length, label))
            at += length
        splits[split] = TokenSplit(tokens[start : start + at], tuple(spans))
        start += at
    return TokenEntry(from_spec(meta["tokenizer"]), splits, meta["sha256"])


def content_of(texts: Sequence[str]) -> str:
    """A short hash of texts, for the source of an entry."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
