"""Edits of a condition: the same noise with another class, attribute or word."""

from collections.abc import Sequence

import torch
from torch import Tensor

from genai.errors import UserError

COMMA = ","


def edited_condition(
    condition: Tensor, name: str, step: float, names: Sequence[str], kind: str, pairs: Sequence[Sequence[str]] = ()
) -> Tensor:
    """The condition with one label changed.

    Args:
        condition: (N,) classes, (N, K) attributes of 0 to 1, or (N, L) words.
        name: of the label.
        step: added to an attribute, which stays within 0 and 1 (1/2 is its null condition); 1 sets a class or appends a word to
            the caption, -1 leaves the word out.
        names: of the classes or attributes, or the vocabulary.
        kind: `class`, `attributes` or `text`.
        pairs: names of attributes that exclude each other: one that rises clears the others.

    Raises:
        UserError: there is no such label, the step has no meaning for it, or a caption has no room for the word.
    """
    if name not in names:
        raise UserError(f"the condition has no {name!r}: choose from {', '.join(filter(None, names))}")
    k = list(names).index(name)
    if kind == "attributes":
        result = condition.clone()
        result[:, k] = (condition[:, k] + step).clamp(0, 1)
        for pair in pairs:
            if step > 0 and name in pair:
                (other,) = (one for one in pair if one != name)
                result[:, list(names).index(other)] *= 1 - result[:, k]
        return result
    if step not in ((1,) if kind == "class" else (-1, 1)):
        allowed = "1, which sets the class" if kind == "class" else "1 (adds the word) or -1 (leaves it out)"
        raise UserError(f"--set {name}={step:g}: the step should be {allowed}")
    if kind == "class":
        return torch.full_like(condition, k)
    return without_word(condition, k) if step < 0 else with_word(condition, k, names)


def without_word(captions: Tensor, word: int) -> Tensor:
    """Captions (N, L) without a word; the others move up."""
    rows = [[token for token in row if token not in (0, word)] for row in captions.tolist()]
    return torch.tensor([row + [0] * (captions.shape[1] - len(row)) for row in rows], dtype=captions.dtype)


def with_word(captions: Tensor, word: int, vocabulary: Sequence[str]) -> Tensor:
    """Captions (N, L) with a word at the end where they lack it, after a comma if the vocabulary has one."""
    comma = [list(vocabulary).index(COMMA)] if COMMA in vocabulary else []
    rows = []
    for row in captions.tolist():
        own = [token for token in row if token]
        if word not in own:
            own += [*comma, word] if own else [word]
        if len(own) > captions.shape[1]:
            raise UserError(f"a caption of {captions.shape[1]} words has no room for another: choose a shorter --prompt")
        rows.append(own + [0] * (captions.shape[1] - len(own)))
    return torch.tensor(rows, dtype=captions.dtype)
