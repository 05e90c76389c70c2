"""Words and their numbers: a sentence is a row of int64 tokens, 0 behind its last word."""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Literal

from genai.errors import UserError

PADDING, UNKNOWN = "", "?"  # the first two words of every vocabulary


def words_of(text: str) -> list[str]:
    """`Red hair, a hat` -> ["red", "hair", ",", "a", "hat"]: lower case, every mark of punctuation a word of its own."""
    return re.findall(r"\w+(?:['-]\w+)*|[^\w\s]", text.lower())


def vocabulary(texts: Iterable[str]) -> tuple[str, ...]:
    """The words of `texts` in alphabetical order, after the padding "" (0) and "?" (1), which stands for any other word."""
    words = {word for text in texts for word in words_of(text)}
    return (PADDING, UNKNOWN, *sorted(words - {UNKNOWN}))


def encode(text: str, vocabulary: Sequence[str], length: int, unknown: Literal["error", "token"] = "error") -> list[int]:
    """The numbers of the words of `text`, `length` of them with the padding.

    Args:
        text: a sentence; an empty one is padding alone.
        vocabulary: as `vocabulary` makes it.
        length: most words there may be.
        unknown: what a word outside the vocabulary is, an error or the token 1.

    Raises:
        UserError: a word is not in the vocabulary, or there are more than `length`.
    """
    number = {word: i for i, word in enumerate(vocabulary) if word not in (PADDING, UNKNOWN)}
    words = words_of(text)
    if len(words) > length:
        raise UserError(f"a prompt has at most {length} words and marks, this one {len(words)}: shorten {text!r}")
    unseen = next((word for word in words if word not in number), None)
    if unseen is not None and unknown == "error":
        raise UserError(describe_unseen(unseen, list(number)))
    return [number.get(word, vocabulary.index(UNKNOWN)) for word in words] + [0] * (length - len(words))


def describe_unseen(word: str, words: Sequence[str]) -> str:
    """What is wrong with a word that is not among `words`, in one line."""
    close = difflib.get_close_matches(word, words, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"choose from {' '.join(words)}"
    return f"the word {word!r} is in no caption of the training images: {hint} (--unknown-words draws all the same)"


def decode(tokens: Iterable[int], vocabulary: Sequence[str]) -> str:
    """Tokens -> the sentence, in lower case; the padding is left out."""
    text = " ".join(vocabulary[token] for token in tokens if token)
    return re.sub(r" ([,.;:!])", r"\1", text)
