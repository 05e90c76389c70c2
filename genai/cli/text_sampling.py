"""`genai sample` for models of text: the first sample is printed as it comes, the others after it."""

import codecs
import sys
from collections.abc import Sequence
from pathlib import Path

from genai.cli.options.output import OutputOptions
from genai.cli.options.run import LoadedRun
from genai.cli.options.text import TokenOptions, heading_of
from genai.errors import UserError
from genai.files import write_atomically
from genai.memory import check_memory
from genai.models.seeds import image_seeds
from genai.models.watermarks import GreenList
from genai.runs.text import stream_tokens, tokenizer_of
from genai.terminal import visible

DEFAULT_NUM, DEFAULT_TOKENS = 1, 300
BYTES_OF_SAMPLE, BYTES_OF_TOKEN = 1000, 16  # at least


def sample_text(
    source: LoadedRun,
    num: int | None,
    seed: int,
    prompt: str | None,
    options: TokenOptions,
    output: OutputOptions,
    watermark: str | None = None,
) -> None:
    """Print samples, and write them to --out, one after the other with a line between them.

    Raises:
        UserError: --out does not end in .txt, or the prompt has a character that the model does not know.
    """
    if output.force and output.out is None:
        raise UserError("--force has no effect without --out, for a model of text: leave it out")
    path = None if output.out is None else output.path(Path(output.out))
    if path is not None and path.suffix != ".txt":
        raise UserError(f"--out {path} should end in .txt for a model of text")
    tokenizer, num = tokenizer_of(source.run), num or DEFAULT_NUM
    seeds, settings = image_seeds(seed, num), options.settings()
    check_memory(
        num * (BYTES_OF_SAMPLE + BYTES_OF_TOKEN * (options.tokens or DEFAULT_TOKENS)),
        f"{num:,} texts of {options.tokens or DEFAULT_TOKENS:,} tokens",
        "generate fewer at a time, each time with another --seed",
    )
    if watermark is not None:
        settings["green"] = GreenList(watermark)
    heading = heading_of(seed, "{}") if num > 1 else "{}"
    printer = codecs.getincrementaldecoder("utf-8")(errors="replace")  # a character may have several tokens
    rows: list[list[int]] = []
    printed = 0
    for rows in stream_tokens(source.model, tokenizer, seeds, prompt or "", options.tokens or DEFAULT_TOKENS, **settings):
        if not printed:
            show(heading.format(0 if num > 1 else "") + (prompt or ""))
        show(printer.decode(tokenizer.decode(rows[0][printed:])))
        printed = len(rows[0])
    texts = [(prompt or "") + tokenizer.text(row) for row in rows]
    show(printer.decode(b"", final=True) + "\n")
    for i, text in enumerate(texts[1:], start=1):
        show(f"{heading.format(i)}{text}\n")
    if path is not None:
        write_atomically(path, joined(texts, seed))
        print(f"wrote {path}")


def joined(texts: Sequence[str], seed: int) -> str:
    """The content of --out: the text, or several with a heading each."""
    if len(texts) == 1:
        return texts[0] + "\n"
    return "".join(f"{heading_of(seed, i)}{text}\n" for i, text in enumerate(texts))


def show(text: str) -> None:
    """Print at once; to a terminal, without what steers it: the text is that of a model, perhaps of somebody else."""
    sys.stdout.write(visible(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()
