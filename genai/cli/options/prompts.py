"""What a model of text is asked to draw: from `--prompt` and `--prompts` to the words of each image."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from genai.data.words import decode, encode
from genai.errors import UserError

PER_PROMPT = 8  # images of each line of a file, where --per-label does not say


def add_prompt_options(verb: argparse.ArgumentParser) -> None:
    """The options that say in words what to draw."""
    verb.add_argument("--prompt", metavar="TEXT", help="of a model of text: what to draw")
    verb.add_argument("--prompts", metavar="FILE", help=f"a prompt a line, each a row of --per-label images ({PER_PROMPT})")
    verb.add_argument("--unknown-words", action="store_true", help="draw in spite of words that no training caption has")


def is_prompted(options: argparse.Namespace) -> bool:
    return options.prompt is not None or options.prompts is not None


def prompt_labels(options: argparse.Namespace, vocabulary: Sequence[str], examples: Tensor) -> Tensor:
    """The words of each image to draw, (N, L) int64: of the prompts, or without any of the captions `examples` (M, L) in turn.

    Raises:
        UserError: the options do not fit, or a prompt has other words than the vocabulary, or too many.
    """
    if options.label:
        raise UserError(f'{options.run} draws from words: ask with --prompt "{decode(examples[0].tolist(), vocabulary)}"')
    rows = examples
    if is_prompted(options):
        length = examples.shape[1]
        unknown: Literal["error", "token"] = "token" if options.unknown_words else "error"
        rows = torch.tensor([encode(text, vocabulary, length, unknown) for text in prompts(options)])
    elif options.per_label:
        raise UserError("--per-label says how many images of each prompt to draw: add --prompts FILE, or choose --num")
    if options.per_label:
        return rows.repeat_interleave(options.per_label, dim=0)
    return rows[torch.arange(options.num) % len(rows)]


def prompts(options: argparse.Namespace) -> list[str]:
    """The prompt, or the lines of the file of prompts that are not empty.

    Raises:
        UserError: there are both, or the file cannot be read or has none.
    """
    if options.prompts is None:
        return [options.prompt]
    if options.prompt is not None:
        raise UserError("--prompt and --prompts both say what to draw: give one of them")
    try:
        lines = [line.strip() for line in Path(options.prompts).read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--prompts {options.prompts} cannot be read ({error}): name a text file, a prompt a line") from None
    if not any(lines):
        raise UserError(f"--prompts {options.prompts} is empty: write a prompt in each line")
    return [line for line in lines if line]
