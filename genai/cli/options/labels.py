"""What a conditional model is asked to draw: from `--label` to a class or an attribute vector, or words, for each image."""

import argparse
import difflib
from collections.abc import Sequence

import torch
from torch import Tensor

from genai.cli.options.prompts import is_prompted, prompt_labels
from genai.data.words import decode
from genai.errors import UserError
from genai.models.base import ImageModel
from genai.models.seeds import image_seeds
from genai.runs import Run
from genai.runs.data import data_of

LABEL_OPTIONS = {"class": "--label 4, or a class name", "attributes": "--label glasses,no-beard"}


def labels_for(options: argparse.Namespace, model: ImageModel, run: Run) -> Tensor | None:
    """What each image to draw is asked to be: (N,) int64 classes, (N, K) float32 attributes or (N, L) int64 words.

    None for an unconditional model.
    """
    if not model.conditional:
        if options.label or options.per_label or is_prompted(options):
            raise UserError(f"{options.run} is unconditional: it draws without --label, --per-label and --prompt")
        return None
    names, kind = run.record()["class_names"], label_kind(run, options.trust)
    if kind == "text":
        return prompt_labels(options, names, label_examples(run))
    if is_prompted(options):
        raise UserError(f"{options.run} knows labels and no words: ask with {LABEL_OPTIONS[kind]}")
    if kind == "attributes":
        settings = attribute_settings(options.label, options.per_label, names, exclusive(run))
        return attribute_labels(settings, options.num, options.per_label, label_examples(run).float())
    return class_labels(options.label, options.num, options.per_label, names)


def label_kind(run: Run, trust: Sequence[str]) -> str:
    """`class`, `attributes` or `text`; of a run whose record does not say, as its data module does."""
    return run.record().get("label_kind") or data_of(run, trust).label_kind


def label_examples(run: Run) -> Tensor:
    """Attribute vectors (M, K) or words (M, L) of training images, int64.

    Raises:
        UserError: the run's record has none.
    """
    examples = run.record().get("label_examples")
    if not examples:
        raise UserError(f"{run.path}/run.json lacks label_examples to draw: `genai fit --resume {run.path}` adds them")
    return torch.tensor(examples)


def seeds_for(options: argparse.Namespace, num: int) -> list[int]:
    """A seed for each of `num` images; with `--same-noise` those of one label are those of every other."""
    if options.same_noise:
        return image_seeds(options.seed, options.per_label) * (num // options.per_label)
    return image_seeds(options.seed, num)


# -- classes -------------------------------------------------------------------------------------------------------------


def class_labels(label: str | None, num: int, per_label: int | None, class_names: list[str]) -> Tensor:
    """`per_label` images of each class that `label` names, or `num` that cycle them: (N,) int64."""
    numbers = class_numbers(label or "all", class_names)
    if per_label:
        return torch.tensor(numbers).repeat_interleave(per_label)
    return torch.tensor(numbers).repeat(num // len(numbers) + 1)[:num]


def class_numbers(text: str, class_names: list[str]) -> list[int]:
    """`4`, `four`, `3,4` or `all` -> class numbers.

    Raises:
        UserError: there is no such class.
    """
    if text == "all":
        return list(range(len(class_names)))
    numbers = []
    for part in text.split(","):
        if part in class_names:
            numbers.append(class_names.index(part))
        elif part.isdecimal() and int(part) < len(class_names):
            numbers.append(int(part))
        else:
            raise UserError(f"there is no class {part!r}: choose from {', '.join(class_names)}, or all")
    return numbers


# -- attributes ----------------------------------------------------------------------------------------------------------

Setting = dict[int, float]  # attribute number -> the value asked for


def exclusive(run: Run) -> list[tuple[int, int]]:
    """Pairs of attributes, by number, that no training image has both."""
    record = run.record()
    index = record["class_names"].index
    return [(index(one), index(other)) for one, other in record.get("label_exclusive", [])]


def attribute_settings(
    label: str | None, per_label: int | None, names: list[str], pairs: list[tuple[int, int]]
) -> list[Setting]:
    """What to change in the examples: one setting of all that `label` names, or for `all` one for each attribute in turn."""
    if label == "all" or (label is None and per_label):
        asked = [{k: 1.0} for k in range(len(names))]
    else:
        asked = [attribute_values(label, names)] if label else [{}]
    return [excluded(setting, pairs) | setting for setting in asked]


def attribute_values(text: str, names: list[str]) -> Setting:
    """`glasses,no-beard` -> the value of each attribute named.

    Raises:
        UserError: there is no such attribute, or it is asked for both ways.
    """
    values: Setting = {}
    for part in text.split(","):
        name, value = (part, 1.0) if part in names else (part.removeprefix("no-"), 0.0)
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise UserError(f"there is no attribute {name!r}: {hint}choose from {', '.join(names)} (or no-NAME), or all")
        if values.setdefault(names.index(name), value) != value:
            raise UserError(f"--label {text} asks for {name} and no-{name}: give one of them")
    return values


def excluded(setting: Setting, pairs: list[tuple[int, int]]) -> Setting:
    """Zeros for the attributes that no image has together with one that is set."""
    both_ways = [*pairs, *((other, one) for one, other in pairs)]
    return {other: 0.0 for one, other in both_ways if setting.get(one)}


def attribute_labels(settings: list[Setting], num: int, per_label: int | None, examples: Tensor) -> Tensor:
    """The vectors `examples` (M, K) in turn, changed by `per_label` of each setting, or `num` that cycle them: (N, K)."""
    vectors = []
    for i in range(len(settings) * per_label if per_label else num):
        which, row = divmod(i, per_label) if per_label else (i % len(settings), i // len(settings))
        vector = examples[row % len(examples)].clone()
        for k, value in settings[which].items():
            vector[k] = value
        vectors.append(vector)
    return torch.stack(vectors)


def row_names(label: str | None, run: Run) -> list[str]:
    """What each row of a grid of classes, or attributes, is asked to be, where `label` says so."""
    names: list[str] = run.record()["class_names"]
    if label in (None, "all"):
        return names
    return [label] if label_kind(run, ()) == "attributes" else [names[k] for k in class_numbers(label, names)]


def label_texts(labels: Tensor, run: Run) -> list[str]:
    """Labels (N,), (N, K) or (N, L) in words: the number of a class, the names of the attributes that are set, or the text."""
    if labels.ndim == 1:
        return [str(int(label)) for label in labels]
    names = run.record()["class_names"]
    if not labels.is_floating_point():
        return [decode(row, names) for row in labels.tolist()]
    return [", ".join(name for name, value in zip(names, row, strict=True) if value > 0.5) for row in labels]
