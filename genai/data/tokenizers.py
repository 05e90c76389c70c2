"""Tokenizers of text: characters, bytes and byte-pair encoding. A token stands for a fixed string of bytes."""

import json
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Literal

import numpy as np

from genai.errors import UserError

TokenizerKind = Literal["characters", "bytes", "bpe"]
LETTERS = "A-Za-z\x80-\xff"  # the bytes of UTF-8 beyond ASCII count as letters
WORDS = rf" ?[{LETTERS}]+| ?[0-9]+| ?[^\s0-9{LETTERS}]+|\s+"  # byte pairs do not cross the borders of these


class TextTokenizer:
    """Text <-> tokens. Decoding concatenates `pieces`, so it is exact for every sequence of tokens.

    Attributes:
        kind: how text is encoded.
        pieces: the bytes of each token, in order; b"" for the token at the end of a document.
        end: the token at the end of a document, the last one; None for data of one document.
    """

    kind: TokenizerKind

    def __init__(self, pieces: Sequence[bytes], has_end: bool) -> None:
        self.pieces = [*pieces, b""] if has_end else list(pieces)
        self.end = len(pieces) if has_end else None

    @property
    def vocab_size(self) -> int:
        return len(self.pieces)

    @property
    def num_bytes(self) -> np.ndarray:
        """The number of bytes of each token: (vocab_size,) int64."""
        return np.array([len(piece) for piece in self.pieces], np.int64)

    @abstractmethod
    def encode(self, text: str) -> np.ndarray:
        """The tokens of `text`, int64 (L,), without the end of the document.

        Raises:
            UserError: a character is not in the vocabulary.
        """

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """What `from_spec` rebuilds the tokenizer from, as JSON values."""

    def decode(self, tokens: Iterable[int]) -> bytes:
        """The bytes of tokens; they may not be valid UTF-8, if the tokens were sampled."""
        return b"".join(self.pieces[int(token)] for token in tokens)

    def text(self, tokens: Iterable[int]) -> str:
        """The text of tokens, with U+FFFD for what is not UTF-8."""
        return self.decode(tokens).decode("utf-8", errors="replace")

    def names(self) -> list[str]:
        """A printable name of each token, such as `a`, `\\\\n` or `the `."""
        texts = [piece.decode("utf-8", errors="backslashreplace") for piece in self.pieces]
        shown = [text if text.isprintable() else text.encode("unicode_escape").decode() for text in texts]
        return [*shown[: self.end], "<end>"] if self.end is not None else shown


class Characters(TextTokenizer):
    """One token for each character; `characters` has them in the order of their code points."""

    kind = "characters"

    def __init__(self, characters: str, has_end: bool) -> None:
        super().__init__([character.encode() for character in characters], has_end)
        self.characters = characters
        self.codes = code_points(characters)

    def encode(self, text: str) -> np.ndarray:
        codes = code_points(text)
        tokens = np.searchsorted(self.codes, codes).clip(max=len(self.codes) - 1)
        unknown = np.flatnonzero(self.codes[tokens] != codes)
        if len(unknown):
            at = int(unknown[0])
            raise UserError(
                f"the model does not know the character {text[at]!r} (at position {at:,}), which is not in its training text: "
                "leave it out, or train with data.init_args.tokens: bytes"
            )
        return tokens.astype(np.int64)

    def spec(self) -> dict[str, Any]:
        return {"kind": self.kind, "characters": self.characters, "has_end": self.end is not None}


class Bytes(TextTokenizer):
    """One token for each byte of UTF-8: 256 tokens."""

    kind = "bytes"

    def __init__(self, has_end: bool) -> None:
        super().__init__([bytes([value]) for value in range(256)], has_end)

    def encode(self, text: str) -> np.ndarray:
        return np.frombuffer(text.encode(), np.uint8).astype(np.int64)

    def spec(self) -> dict[str, Any]:
        return {"kind": self.kind, "has_end": self.end is not None}


class BytePairs(TextTokenizer):
    """Byte-pair encoding (Sennrich et al. 2015, arXiv:1508.07909) of bytes, by the library `tokenizers`.

    The library works on characters: it gets each byte as the character of the same number (Latin-1), so that any bytes are
    encoded and decoded exactly.
    """

    kind = "bpe"

    def __init__(self, model: str, has_end: bool) -> None:
        self.model = model
        self.library = library().Tokenizer.from_str(model)
        vocabulary = self.library.get_vocab()
        super().__init__([name.encode("latin-1") for name in sorted(vocabulary, key=vocabulary.__getitem__)], has_end)

    @classmethod
    def train(cls, documents: Iterable[str], vocab_size: int, has_end: bool) -> "BytePairs":
        """Merge the most frequent pairs of `documents` until there are `vocab_size` tokens."""
        tokenizers = library()
        model = tokenizers.Tokenizer(tokenizers.models.BPE())
        model.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex(WORDS), "isolated")
        alphabet = [chr(value) for value in range(256)]
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=vocab_size - has_end, initial_alphabet=alphabet, show_progress=False, special_tokens=[]
        )
        model.train_from_iterator((as_latin(document.encode()) for document in documents), trainer)
        return cls(model.to_str(), has_end)

    def encode(self, text: str) -> np.ndarray:
        return self.encode_bytes(text.encode())

    def encode_bytes(self, content: bytes) -> np.ndarray:
        """The tokens of any bytes, int64 (L,)."""
        return np.array(self.library.encode(as_latin(content)).ids, np.int64)

    def spec(self) -> dict[str, Any]:
        return {"kind": self.kind, "model": json.loads(self.model), "has_end": self.end is not None}


def train_tokenizer(kind: TokenizerKind, documents: Sequence[str], vocab_size: int, has_end: bool) -> TextTokenizer:
    """A tokenizer of the training documents.

    Args:
        kind: `characters`, `bytes` or `bpe`.
        documents: of the training split.
        vocab_size: of `bpe`, at least 257.
        has_end: whether documents end with a token of their own.

    Raises:
        UserError: the vocabulary is too small for byte-pair encoding.
    """
    if kind == "characters":
        return Characters("".join(sorted(set(chain.from_iterable(map(set, documents))))), has_end)
    if kind == "bytes":
        return Bytes(has_end)
    if vocab_size < 257 + has_end:
        raise UserError(f"bpe_size {vocab_size} is too small for byte-pair encoding, which begins with 256 bytes: use 512")
    return BytePairs.train(documents, vocab_size, has_end)


def from_spec(spec: dict[str, Any]) -> TextTokenizer:
    """The tokenizer that `spec` describes, see `TextTokenizer.spec`; UserError where it is none."""
    try:
        kind, has_end = spec["kind"], bool(spec["has_end"])
        if kind == "bpe":
            return BytePairs(json.dumps(spec["model"]), has_end)
        return Characters(str(spec["characters"]), has_end) if kind == "characters" else Bytes(has_end)
    except UserError:
        raise
    except Exception as error:  # the library raises Exception itself for a damaged model
        raise UserError(f"run.json has a tokenizer that cannot be read ({error}): train the run again") from None


def library() -> Any:
    """The library `tokenizers`, with the submodules that are used; UserError where it is not installed."""
    try:
        import tokenizers
        import tokenizers.models
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ImportError:
        raise UserError("byte-pair encoding needs the library tokenizers: pip install 'genai[text]'") from None
    return tokenizers


def as_latin(content: bytes) -> str:
    """Each byte as the character of its number."""
    return content.decode("latin-1")


def code_points(text: str) -> np.ndarray:
    """The number of each character: (L,) uint32."""
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), np.uint32)
