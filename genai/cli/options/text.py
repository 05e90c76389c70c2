"""Options of sampling tokens, and text files as tokens."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genai.cli.options.arguments import Options, VerbParser, finite, positive
from genai.cli.options.run import RequiredCapability
from genai.data.text_reading import read_text
from genai.data.tokenizers import TextTokenizer
from genai.errors import UserError
from genai.models.capabilities import GeneratesText

TEXT = RequiredCapability(GeneratesText, "predict text", ("configs/pydocs/gpt.yaml", "configs/shakespeare/gpt.yaml"))


@dataclass(frozen=True)
class TokenOptions(Options):
    """How tokens are sampled; None is the default of `TokenSampling`."""

    tokens: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None

    @staticmethod
    def add_to(parser: VerbParser) -> None:
        """Add the options."""
        group = parser.add_argument_group("text (of a model that predicts text)")
        group.add_argument("--tokens", type=positive, metavar="N", help="new tokens of each sample (default: 300)")
        group.add_argument("--temperature", type=finite, metavar="T", help="divides the logits; 0: the most likely token")
        group.add_argument("--top-k", type=positive, metavar="K", help="sample from the K most likely tokens")
        text = "sample from the most likely tokens that have this probability together"
        group.add_argument("--top-p", type=finite, metavar="P", help=text)

    @property
    def is_empty(self) -> bool:
        """Whether none of them is given."""
        return self == TokenOptions()

    def settings(self) -> dict[str, Any]:
        """The options given, as keyword arguments of `TokenSampling`; UserError for one without effect."""
        if self.temperature == 0 and (self.top_k is not None or self.top_p is not None):
            name = "--top-k" if self.top_k is not None else "--top-p"
            raise UserError(f"{name} has no effect on --temperature 0, which takes the most likely token: leave it out")
        given = {"temperature": self.temperature, "top_k": self.top_k, "top_p": self.top_p}
        return {name: value for name, value in given.items() if value is not None}


def heading_of(seed: int, number: int | str) -> str:
    """The line above a sample in a file of several."""
    return f"--- seed {seed}, sample {number} ---\n"


HEADING = re.compile(r"^--- seed \d+, sample \d+ ---\n", re.MULTILINE)


def file_texts(name: str, tokenizer: TextTokenizer) -> list[Tensor]:
    """The tokens (L,) of a text file; of a file of `genai sample --num`, those of each sample.

    Raises:
        UserError: it is missing, empty, binary, not UTF-8, or has a character that the tokenizer does not know.
    """
    path = Path(name)
    if not path.is_file():
        raise UserError(f"there is no file {path}: name a text file in UTF-8")
    content = read_text(path)
    samples = [text.removesuffix("\n") for text in HEADING.split(content)[1:]]  # what `genai sample` adds to each
    texts = samples if HEADING.match(content) else [content]
    try:
        rows = [torch.from_numpy(tokenizer.encode(text)) for text in texts]
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if min(map(len, rows)) < 2:
        raise UserError(f"{path} has {min(map(len, rows))} token: a text needs two")
    return rows
