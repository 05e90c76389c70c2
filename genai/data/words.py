"""Words and their numbers: a caption is a row of int64 tokens, padded with 0."""

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np
from torch import Tensor

from genai.data.arrays import Split
from genai.errors import UserError

MAX_SHOWN = 60  # characters of a text in a message
PADDING, UNKNOWN = "", "?"  # the first two words of every vocabulary


class CaptionTokens:
    """The captions of a dataset's splits as tokens, encoded once for each split.

    Args:
        captions: gives the captions of a split, one for each image.
        vocabulary: as `vocabulary` makes it; it has every word of the captions.
        length: the most words and punctuation marks of a caption.
    """

    def __init__(self, captions: Callable[[Split], list[str]], vocabulary: Sequence[str], length: int) -> None:
        self.captions = captions
        self.vocabulary = vocabulary
        self.length = length
        self._tokens: dict[Split, np.ndarray] = {}

    def of(self, split: Split) -> np.ndarray:
        """The captions of `split`, int64 (N, length)."""
        if split not in self._tokens:
            rows = [encode(caption, self.vocabulary, self.length) for caption in self.captions(split)]
            self._tokens[split] = np.array(rows, np.int64)
        return self._tokens[split]


def words_of(text: str) -> list[str]:
    """`Red hair, a hat` -> ["red", "hair", ",", "a", "hat"]: lower case, each punctuation mark is a word."""
    return re.findall(r"\w+(?:['-]\w+)*|[^\w\s]", text.lower())


def vocabulary(texts: Iterable[str]) -> tuple[str, ...]:
    """The words of `texts` in alphabetical order, after "" (0, padding) and "?" (1, any unknown word)."""
    words = {word for text in texts for word in words_of(text)}
    return (PADDING, UNKNOWN, *sorted(words - {UNKNOWN}))


def encode(text: str, vocabulary: Sequence[str], length: int, unknown: Literal["error", "token"] = "error") -> list[int]:
    """The tokens of `text`, padded to `length`.

    Args:
        text: a sentence; an empty one is padding alone.
        vocabulary: as `vocabulary` makes it.
        length: the most words and punctuation marks that are allowed.
        unknown: what to do with a word outside the vocabulary: raise an error, or encode it as token 1.

    Raises:
        UserError: a word is not in the vocabulary, or there are more than `length`.
    """
    number = {word: i for i, word in enumerate(vocabulary) if word not in (PADDING, UNKNOWN)}
    words = words_of(text)
    if len(words) > length:
        raise UserError(
            f"a prompt has at most {length} words and punctuation marks, this one has {len(words)}: shorten {shown(text)}"
        )
    unseen = next((word for word in words if word not in number), None)
    if unseen is not None and unknown == "error":
        raise UserError(describe_unseen(unseen, list(number)))
    return [number.get(word, vocabulary.index(UNKNOWN)) for word in words] + [0] * (length - len(words))


def shown(text: str) -> str:
    """A text in quotes, for a message: its first characters."""
    return repr(text) if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]!r}..."


def describe_unseen(word: str, words: Sequence[str]) -> str:
    """The error message for a word that is not among `words`, in one line."""
    close = difflib.get_close_matches(word, words, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"choose from {' '.join(words)}"
    return f"the word {shown(word)} is in no caption of the training images: {hint} (--unknown-words accepts it)"


def labels_in_words(labels: Tensor, names: Sequence[str]) -> list[str]:
    """Labels (N,), (N, K) or (N, L) as text: the class, the names of the attributes that are set, or the caption.

    Args:
        labels: classes, attributes of 0 and 1 (float), or tokens.
        names: of the classes, of the attributes, or the vocabulary; a class without a name is its number.
    """
    if labels.ndim == 1:
        return [names[label] if 0 <= label < len(names) else str(label) for label in labels.tolist()]
    if not labels.is_floating_point():
        return [decode(row, names) for row in labels.tolist()]
    return [", ".join(name for name, value in zip(names, row, strict=True) if value > 0.5) for row in labels.tolist()]


def decode(tokens: Iterable[int], vocabulary: Sequence[str]) -> str:
    """Tokens -> the sentence, in lower case and without padding."""
    text = " ".join(vocabulary[token] for token in tokens if token)
    return re.sub(r" ([,.;:!])", r"\1", text)
