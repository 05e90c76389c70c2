"""The text of a run: its tokenizer, prompts as tokens, samples as they come."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from genai.data.tokenizers import TextTokenizer, from_spec
from genai.errors import DamagedFileError, UserError
from genai.models.capabilities import GeneratesText
from genai.runs.directory import Run


def tokenizer_of(run: Run) -> TextTokenizer:
    """The tokenizer in run.json; DamagedFileError where it has another number of tokens than the model."""
    record = run.record()
    tokenizer = from_spec(record.get("tokenizer") or {})
    if tokenizer.vocab_size != record.get("vocab_size"):
        raise DamagedFileError(f"{run.path / 'run.json'} is damaged (its tokenizer has {tokenizer.vocab_size} tokens)")
    return tokenizer


def prompt_tokens(prompt: str | None, tokenizer: TextTokenizer) -> Tensor | None:
    """A prompt as tokens (L,), after the end of a document where there is such a token; None for the start of a text.

    Raises:
        UserError: the prompt has a character that the tokenizer does not know, or is not UTF-8.
    """
    try:
        (prompt or "").encode()
    except UnicodeEncodeError:
        raise UserError("the prompt is not UTF-8: give it in UTF-8") from None
    start = [] if tokenizer.end is None else [tokenizer.end]
    tokens = [*start, *(tokenizer.encode(prompt).tolist() if prompt else [])]
    return torch.tensor(tokens) if tokens else None


def stream_tokens(
    model: GeneratesText, tokenizer: TextTokenizer, seeds: Sequence[int], prompt: str, num_tokens: int, **settings: Any
) -> Iterator[list[list[int]]]:
    """The tokens of each sample so far, without the prompt, after each step: a sample stops at the end of its document.

    Args:
        model: of text.
        tokenizer: of its run.
        seeds: one for each sample.
        prompt: the text that the samples continue; empty for the start of a text.
        num_tokens: the most new tokens of a sample.
        settings: of the tokens, see `TokenSampling`.

    Raises:
        UserError: the prompt has a character that the tokenizer does not know, or a setting is out of range.
    """
    rows: list[list[int]] = [[] for _ in seeds]
    for step in model.stream(seeds, prompt_tokens(prompt, tokenizer), num_tokens, **settings):
        for row, token in zip(rows, step.tolist(), strict=True):
            if not row or row[-1] != tokenizer.end:
                row.append(token)
        yield rows
        if all(row[-1] == tokenizer.end for row in rows):
            return
