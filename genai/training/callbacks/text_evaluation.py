"""Scores of a text model after `validate` and `test`: bits per byte, variety and memorisation of samples."""

from collections.abc import Iterator
from typing import Any

import lightning as L
import numpy as np
import rich
import torch
from rich.text import Text
from torch import Tensor

from genai.data.text import TextDataModule, document_windows
from genai.data.token_cache import TokenSplit
from genai.data.windows import DocumentWindows
from genai.metrics.text import TextComparison, TextLikelihood, TextProtocol, TextResult, compute_text_scores
from genai.models.seeds import image_seeds
from genai.models.text import TextModel
from genai.runs import merge_json
from genai.training.callbacks.evaluation import describe_sizes, network_sizes
from genai.training.callbacks.run_directory import overrides_of, run_dir_of

SAMPLE_TOKENS = 512
BATCH_SIZE = 64  # documents


class EvaluateText(L.Callback):
    """Scores a text model against the validation split in `validate`, against the test split in `test`.

    In a fit, the model's own validation logs bits per byte; samples are not scored. If the Trainer has a `RunDirectory`, the
    scores are merged into its metrics.json. Other models are ignored.

    Args:
        num_samples: number of samples.
        seed: of the samples.
        prints: whether the scores are printed.
    """

    def __init__(self, num_samples: int = 32, seed: int = 0, prints: bool = True) -> None:
        self.num_samples = num_samples
        self.seed = seed
        self.prints = prints
        self.latest_result: TextResult | None = None

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "validate":
            self.evaluate(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.evaluate(trainer, pl_module, "test")

    def evaluate(self, trainer: L.Trainer, model: L.LightningModule, split: Any) -> None:
        """Score on the first process, and report."""
        data = getattr(trainer, "datamodule", None)
        if not isinstance(model, TextModel) or not isinstance(data, TextDataModule) or not trainer.is_global_zero:
            return
        self.latest_result = result = score_text(model, data, split, self.num_samples, self.seed)
        overrides = overrides_of(trainer)
        for logger in () if overrides else trainer.loggers:
            logger.log_metrics({f"{split}/{name}": value for name, value in result.scores.items()}, step=model.images_seen)
        sizes = network_sizes(model)
        if (run_dir := run_dir_of(trainer)) is not None:
            about = {"parameters": sizes, "images_seen": model.images_seen, "overrides": list(overrides)}
            merge_json(run_dir / "metrics.json", {split: result.to_dict() | about}, keep=True)
        if not self.prints:
            return
        rich.print(result.table())
        rich.print(Text(result.protocol.describe(), style="dim"))
        if sizes:
            rich.print(Text(describe_sizes(sizes), style="dim"))


def score_text(model: TextModel, data: TextDataModule, split: Any, num_samples: int, seed: int) -> TextResult:
    """The scores of a model on a split, and those of real text."""
    held_out, training, tokenizer = data.split(split), data.split("train"), data.tokenizer
    prompt = None if tokenizer.end is None else torch.tensor([tokenizer.end])
    num_tokens = min(SAMPLE_TOKENS, data.context_length - 1) if data.by_document else SAMPLE_TOKENS
    samples = model.sample(image_seeds(seed, num_samples), prompt, num_tokens=num_tokens)
    end = tokenizer.end if data.by_document else None
    texts = [tokenizer.decode(until(row, end)) for row in samples.tolist()]
    excerpts = [
        tokenizer.decode(row)
        for row in (first_of_documents if data.by_document else excerpts_of)(held_out, num_samples, num_tokens)
    ]
    text = tokenizer.decode(training.tokens)
    size = len(held_out), int(tokenizer.num_bytes[held_out.tokens].sum())
    if data.by_document:
        held_out_likelihood = document_likelihood(model, data, split, len(held_out.documents))
        size = held_out_likelihood[1:]  # documents are cut after the context
        training_likelihood = document_likelihood(model, data, "train", len(held_out.documents))
    else:
        held_out_likelihood = likelihood(model, held_out.tokens, tokenizer.num_bytes)
        training_likelihood = likelihood(model, training.tokens[: len(held_out)], tokenizer.num_bytes)
    protocol = TextProtocol(
        data=data.name,
        fingerprint=data.fingerprint(split),
        split=split,
        tokenizer=tokenizer.kind,
        vocab_size=tokenizer.vocab_size,
        context_length=data.context_length,
        num_tokens=size[0],
        num_bytes=size[1],
        num_samples=num_samples,
        sample_tokens=num_tokens,
        seed=seed,
    )
    return TextResult(
        scores=compute_text_scores(TextComparison(held_out_likelihood, texts, text)),
        floor=compute_text_scores(TextComparison(training_likelihood, excerpts, text)),
        protocol=protocol,
    )


def likelihood(model: TextModel, tokens: np.ndarray, num_bytes: np.ndarray) -> TextLikelihood:
    """Of tokens (L,) read as one text, without the first token, which has nothing before it."""
    log_probs = model.text_log_probs(torch.from_numpy(tokens.astype(np.int64)))[1:]
    return TextLikelihood(-float(log_probs.sum()), len(tokens) - 1, int(num_bytes[tokens[1:]].sum()))


def document_likelihood(model: TextModel, data: TextDataModule, split: Any, num: int) -> TextLikelihood:
    """Of `num` documents spread evenly over a split; see `documents_log_probs`."""
    nats, num_tokens, num_bytes = 0.0, 0, 0
    for tokens, log_probs in documents_log_probs(model, document_windows(data, split), num):
        nats -= float(log_probs.sum())
        num_tokens += len(tokens)
        num_bytes += int(data.tokenizer.num_bytes[tokens].sum())
    return TextLikelihood(nats, num_tokens, num_bytes)


@torch.no_grad()
def documents_log_probs(model: TextModel, windows: DocumentWindows, num: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """The tokens of each document with its end, int64 (L,), cut after the context, and their ln p, float64 (L,).

    Args:
        model: it gets the labels of the documents if it takes them.
        windows: the documents.
        num: documents, spread evenly over them; None for all.
    """
    num = len(windows) if num is None else min(num, len(windows))
    chosen = np.linspace(0, len(windows) - 1, num).astype(int).tolist()
    for start in range(0, num, BATCH_SIZE):
        batch = windows.__getitems__(chosen[start : start + BATCH_SIZE])
        condition = [batch.labels.to(model.device)] if model.num_classes else []
        log_probs = model.log_probs(batch.tokens.clamp(min=0).to(model.device), *condition)[:, 1:].double().cpu()
        for tokens, row in zip(batch.tokens[:, 1:], log_probs, strict=True):
            yield tokens[tokens >= 0], row[tokens >= 0]


def until(tokens: list[int], end: int | None) -> list[int]:
    """The tokens before the first `end`."""
    return tokens[: tokens.index(end)] if end in tokens else tokens


def first_of_documents(split: TokenSplit, num: int, num_tokens: int) -> list[np.ndarray]:
    """The first `num_tokens` tokens, without the end, of `num` documents spread evenly over a split."""
    chosen = np.linspace(0, len(split.documents) - 1, num).astype(int)
    spans = [split.documents[i] for i in chosen]
    return [split.tokens[span.start : min(span.stop - 1, span.start + num_tokens)] for span in spans]


def excerpts_of(split: TokenSplit, num: int, num_tokens: int) -> list[np.ndarray]:
    """`num` excerpts of `num_tokens` tokens, spread evenly over a split; shorter if the split is."""
    last = max(len(split) - num_tokens, 0)
    return [split.tokens[start : start + num_tokens] for start in np.linspace(0, last, num).astype(int)]
