"""`genai likelihood` for models of text: nats and bits for each token, character and byte, with the spread over documents."""

import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from genai.cli.options.run import LoadedRun
from genai.cli.options.text import file_texts
from genai.data.text import TextDataModule, document_windows
from genai.data.token_cache import Span, TokenSplit
from genai.data.tokenizers import TextTokenizer
from genai.data.windows import DocumentWindows
from genai.errors import UserError
from genai.metrics.tables import WrappedTable
from genai.runs import merge_json
from genai.runs.data import data_of
from genai.runs.text import tokenizer_of
from genai.training.callbacks.text_evaluation import documents_log_probs

NUM_PARTS = 20  # that a single document is cut into (fewer if it has fewer tokens), for the standard error


class Units(NamedTuple):
    """-ln p in nats of parts of a text, and their sizes; each (P,)."""

    nats: np.ndarray
    tokens: np.ndarray
    characters: np.ndarray
    bytes: np.ndarray


def text_likelihood(source: LoadedRun, file: str | None, split: str, stride: int | None) -> None:
    """Print -ln p of a split or a file in every unit; that of a split is written to RUN/metrics.json.

    Text is read in windows, and its first token, which has nothing before it, is not counted. A file of several samples is as
    many texts. Data by document are read as in training: each document by itself, cut after the context, with its label.

    Raises:
        UserError: the file or the split cannot be read, --stride is given for documents, or a file has no label.
    """
    tokenizer = tokenizer_of(source.run)
    began = time.perf_counter()
    length = source.model.context_length
    windows = None
    if file is None:
        data = source.data()
        assert isinstance(data, TextDataModule)
        if data.tokenizer.spec() != tokenizer.spec():
            raise UserError(f"the text of {data.name} has changed since {source.run.path} was trained: name a FILE instead")
        name, part = f"{data.name}/{split}", data.split(split)  # type: ignore[arg-type]
        texts, ends = [torch.from_numpy(part.tokens.astype(np.int64))], [span.stop - 1 for span in part.documents]
        if data.by_document:
            windows = document_windows(data, split)  # type: ignore[arg-type]
    else:
        if source.model.num_classes:
            raise UserError(f"{source.run.path} is conditional on a label, and a FILE has none: leave it out for a split")
        texts, name = file_texts(file, tokenizer), file
        ends = np.cumsum([len(text) - 1 for text in texts]).tolist()
        if getattr(data_of(source.run, source.trust), "by_document", False):
            windows = windows_of(texts, tokenizer, length)
    about: dict[str, Any] = {"text": name}
    if windows is None:
        log_probs = torch.cat([source.model.text_log_probs(text, stride)[1:] for text in texts])
        tokens = torch.cat([text[1:] for text in texts])
        about["stride"] = stride = stride or length
        context = f"{length - stride + 1} to {length} tokens (--stride {stride})"
    else:
        if stride is not None:
            raise UserError(f"--stride has no effect on {name}, whose documents are read one by one: leave it out")
        rows = list(documents_log_probs(source.model, windows))
        tokens, log_probs = (torch.cat(values) for values in zip(*rows, strict=True))
        ends = np.cumsum([len(row) for row, _ in rows]).tolist()
        context = f"the document, its first {length} tokens"
    what = "documents" if len(ends) > 1 else "parts"
    if what == "parts":
        num_parts = max(1, min(NUM_PARTS, len(tokens)))  # each with a token
        ends = np.linspace(0, len(tokens), num_parts + 1)[1:].astype(int).tolist()
    units = measure_units(log_probs.numpy(), tokens.numpy(), ends, tokenizer)
    show_units(units, name, what, time.perf_counter() - began)
    print(f"context: {context}")
    if file is None:
        write(source, summary(units) | about)


def windows_of(texts: Sequence[Tensor], tokenizer: TextTokenizer, length: int) -> DocumentWindows:
    """Texts, tokens (L,) each, as documents."""
    assert tokenizer.end is not None  # data by document have it
    rows = [np.append(text.numpy(), tokenizer.end) for text in texts]
    stops = np.cumsum([len(row) for row in rows]).tolist()
    spans = tuple(Span("", stop - len(row), stop, "") for row, stop in zip(rows, stops, strict=True))
    return DocumentWindows(TokenSplit(np.concatenate(rows), spans), tokenizer.end, tokenizer.num_bytes, length)


def write(source: LoadedRun, result: dict[str, Any]) -> None:
    """Write the likelihood of a split to RUN/metrics.json; entries of the zoo are not changed."""
    if not source.run.is_exported:
        merge_json(source.run.path / "metrics.json", {"likelihood": result})


def measure_units(log_probs: np.ndarray, tokens: np.ndarray, ends: Sequence[int], tokenizer: TextTokenizer) -> Units:
    """The parts of a text that end at `ends`."""
    sizes = tokenizer.num_bytes
    characters = np.array([sum((byte & 0xC0) != 0x80 for byte in piece) for piece in tokenizer.pieces])
    values = np.stack([-log_probs, np.ones(len(tokens)), characters[tokens], sizes[tokens]])
    totals = np.concatenate([np.zeros((4, 1)), values.cumsum(axis=1)], axis=1)[:, [0, *ends]]
    return Units(*np.diff(totals, axis=1))


def mean_of(units: Units, per: str) -> tuple[float, float]:
    """Nats for each token, character or byte, and the standard error of this ratio over the parts."""
    size = getattr(units, per)
    ratio = units.nats.sum() / size.sum()
    residuals = units.nats - ratio * size
    num = max(len(size), 2)
    return float(ratio), float(math.sqrt(residuals.var() * num / (num - 1) / num) / size.mean())


def summary(units: Units) -> dict[str, Any]:
    """Nats and their standard errors by unit."""
    return {f"nats_per_{per[:-1]}": mean_of(units, per) for per in ("tokens", "characters", "bytes")}


def show_units(units: Units, name: str, what: str, seconds: float) -> None:
    """Print the table."""
    rows = []
    for per in ("tokens", "characters", "bytes"):
        nats, error = mean_of(units, per)
        bits = [f"{value / math.log(2):.4f}" for value in (nats, error)]
        rows.append([per[:-1], f"{nats:.4f} ± {error:.4f}", " ± ".join(bits), f"{math.exp(nats):.3f}"])
    title = f"{name}: {int(units.tokens.sum()):,} tokens, {int(units.bytes.sum()):,} bytes"
    Console().print(WrappedTable(["per", "nats", "bits", "perplexity"], rows, title=title))
    ratios = np.sort(units.nats / np.maximum(units.bytes, 1) / math.log(2))
    low, middle, high = (float(np.quantile(ratios, q)) for q in (0.1, 0.5, 0.9))
    print(f"bits per byte of {len(ratios)} {what}: 10 % {low:.3f}, median {middle:.3f}, 90 % {high:.3f}; {seconds:.0f} s")
