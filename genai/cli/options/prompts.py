"""From --prompt and --prompts to the words of captions."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from genai.data.words import encode
from genai.errors import UserError
from genai.files import read_bounded

MAX_BYTES = 10_000_000  # of a file of prompts


def read_prompts(prompt: str | None, file: str | None) -> list[str]:
    """The prompt, or the lines of `file` that are not empty.

    Raises:
        UserError: both or neither are given, or the file cannot be read or has no prompt.
    """
    if file is None:
        return [] if prompt is None else [prompt]
    if prompt is not None:
        raise UserError("--prompt and --prompts both give prompts: leave one of them out")
    try:
        lines = [line.strip() for line in read_bounded(Path(file), MAX_BYTES).decode("utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--prompts {file} cannot be read ({error}): name a text file with one prompt per line") from None
    if not any(lines):
        raise UserError(f"--prompts {file} is empty: write one prompt per line")
    return [line for line in lines if line]


def caption_tokens(texts: Sequence[str], vocabulary: Sequence[str], length: int, unknown_words: bool) -> Tensor:
    """Captions -> word numbers (N, length) int64, 0 for padding; unknown words become the unknown-word token.

    Raises:
        UserError: a caption is too long, or has unknown words that are not allowed.
    """
    return torch.tensor([encode(text, vocabulary, length, "token" if unknown_words else "error") for text in texts])
