"""A run of a model of text in the playground: a prompt and settings give a text that grows. Nothing here knows of a browser."""

import threading
from collections.abc import Iterator
from typing import Any

from genai.models.seeds import image_seeds
from genai.report.play.actions import Cancelled
from genai.runs import Run
from genai.runs.text import stream_tokens, tokenizer_of

STEP = 4  # tokens between two texts that are shown


class PlayableText:
    """A run of a model of text.

    Args:
        run: its folder.
        name: its heading.
        model: of the run, in eval mode.
    """

    def __init__(self, run: Run, name: str, model: Any) -> None:
        self.name = name
        self.model = model
        self.tokenizer = tokenizer_of(run)
        self.cancelled = threading.Event()

    def write(self, prompt: str, seed: int, num_tokens: int, temperature: float, top_k: int) -> Iterator[str]:
        """The prompt and what follows it, longer and longer.

        Up to rounding it is sample 0 of `genai sample --seed SEED --prompt PROMPT`.

        Args:
            prompt: the beginning; empty for the start of a text.
            seed: of all random numbers.
            num_tokens: the most new tokens.
            temperature: divides the logits; 0 always takes the most likely token.
            top_k: samples from the k most likely tokens; 0 for all.

        Raises:
            Cancelled: `cancel` was called meanwhile.
            UserError: the prompt has a character that the model does not know.
        """
        self.cancelled.clear()
        seeds, text = image_seeds(seed, 1), prompt
        settings = {"temperature": temperature, "top_k": top_k, "chunk": 1}  # kernels for more rows are slower
        for i, (row,) in enumerate(stream_tokens(self.model, self.tokenizer, seeds, prompt, num_tokens, **settings)):
            if self.cancelled.is_set():
                raise Cancelled
            text = prompt + self.tokenizer.text(row)
            if i % STEP == 0:
                yield text
        yield text

    def cancel(self) -> None:
        """Stop the text that is being written."""
        self.cancelled.set()
