"""Rows of `genai classify` for text: class-conditional models by Bayes' rule, and baselines of the same training documents."""

import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from genai.cli.classification import Row, scored
from genai.cli.options.run import LoadedRun
from genai.data.arrays import SPLITS
from genai.data.labelled import LabelledText
from genai.data.text import document_windows
from genai.errors import UserError
from genai.metrics.discriminative import log_posterior
from genai.metrics.reference import subset_indices
from genai.metrics.text_classification import TEXT_BASELINES, Fitted, Labelled, fitted_temperature, text_baseline
from genai.models.text import TextModel
from genai.networks.transformer import Transformer

BATCH_SIZE = 64
PRESETS = "configs/mails/gpt.yaml, configs/authors/gpt.yaml or ngram.yaml"


def text_rows(sources: Sequence[LoadedRun], data: Sequence[LabelledText], num: int) -> Iterator[Row]:
    """A row for each run, and one for each baseline and each set of training documents.

    Raises:
        UserError: a run has no labels.
    """
    for source, own in zip(sources, data, strict=True):
        began = time.perf_counter()
        val, test = (by_bayes_rule(source, own, split, num) for split in ("val", "test"))
        labels = {split: labelled(own, split, num).labels for split in ("val", "test")}
        size = len(own.split("train").documents)
        yield text_row(f"{method_of(source)} by Bayes' rule", size, Fitted(val, test, choice=""), labels, began)
    for own in {part.fingerprint("train"): part for part in data}.values():
        splits: dict[str, Labelled] = {split: labelled(own, split, None if split == "train" else num) for split in SPLITS}
        if len(set(splits["train"].labels.tolist())) < 2:
            raise UserError(f"the training documents of {own.name} have one class: use more of them (data.init_args.num_train)")
        for name in TEXT_BASELINES:
            began = time.perf_counter()
            found = text_baseline(name, splits, own.num_classes)
            labels = {split: part.labels for split, part in splits.items()}
            yield text_row(name, len(splits["train"].texts), found, labels, began)


def method_of(source: LoadedRun) -> str:
    """What a run is called in the table: its network if that is a transformer, otherwise its model."""
    network = getattr(source.model, "averaged_network", None)
    return "transformer" if isinstance(network, Transformer) else type(source.model).__name__


def text_row(method: str, size: int, found: Fitted, labels: Mapping[str, np.ndarray], began: float) -> Row:
    """The scores of one method on the test documents; its temperature is fitted to the validation documents.

    Args:
        method: its name.
        size: number of training documents.
        found: its log-probabilities.
        labels: (N,) int64 of the val and the test documents.
        began: time.perf_counter() before it was fitted.
    """
    val, test = (torch.from_numpy(labels[split]) for split in ("val", "test"))
    temperature = fitted_temperature(found.val, val)
    return scored(method, size, found.test.softmax(dim=1), test, began, (found.test / temperature).softmax(dim=1), found.choice)


def labelled(data: LabelledText, split: str, num: int | None) -> Labelled:
    """The texts and classes of a split, or of `num` documents spread over it."""
    part = data.split(split)  # type: ignore[arg-type]
    chosen = range(len(part.documents)) if num is None else subset_indices(len(part.documents), num)
    spans = [part.documents[i] for i in chosen]
    texts = [data.tokenizer.text(part.tokens[span.start : span.stop]) for span in spans]
    return Labelled(texts, np.array([data.class_names.index(span.label) for span in spans], np.int64))


def by_bayes_rule(source: LoadedRun, data: LabelledText, split: str, num: int) -> Tensor:
    """ln p(class | text) (N, K) of documents, each cut after the context, by a class-conditional model."""
    model = source.model
    if not isinstance(model, TextModel) or not model.num_classes:
        raise UserError(f"{source.run.path} is a {type(model).__name__} without labels: name a run of {PRESETS}")
    windows = document_windows(data, split)  # type: ignore[arg-type]
    chosen = list(subset_indices(len(windows), num))
    rows = []
    for start in range(0, len(chosen), BATCH_SIZE):
        tokens = windows.__getitems__(chosen[start : start + BATCH_SIZE]).tokens.to(model.device)
        rows.append(torch.stack([text_log_likelihood(model, tokens, k) for k in range(model.num_classes)], dim=1))
    counts = np.bincount(document_windows(data, "train").labels, minlength=model.num_classes)
    return log_posterior(torch.cat(rows), torch.from_numpy(counts / counts.sum()))


@torch.no_grad()
def text_log_likelihood(model: TextModel, tokens: Tensor, label: int) -> Tensor:
    """ln p(text | label) of documents (N, L) that begin with the end-of-document token, -1 for padding: (N,) float64."""
    labels = torch.full((len(tokens),), label, device=tokens.device)
    log_probs = model.log_probs(tokens.clamp(min=0), labels)[:, 1:].double()
    return (log_probs * (tokens[:, 1:] >= 0)).sum(dim=1).cpu()
