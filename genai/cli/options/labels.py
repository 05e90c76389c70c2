"""From --label and --prompt to the condition of each image: a class, an attribute vector or the words of a caption."""

import difflib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genai.cli.options.arguments import Options, VerbParser, positive
from genai.cli.options.prompts import caption_tokens, read_prompts
from genai.cli.options.run import LoadedRun
from genai.cli.options.shares import SHARES_HELP, attributes_with_shares, class_shares, classes_with_shares, parse_shares
from genai.data.base import ImageArray
from genai.data.words import decode
from genai.errors import UserError
from genai.images import check_number
from genai.models.capabilities import Decodes, Encodes
from genai.models.seeds import image_seeds
from genai.runs import Run
from genai.runs.data import data_of
from genai.runs.sampling import default_condition, label_examples

PER_PROMPT = 8  # images of each line of --prompts, without --per-label
LABEL_OPTIONS = {"class": "--label 4, or a class name", "attributes": "--label glasses,no-beard"}


@dataclass(frozen=True)
class LabelOptions(Options):
    """What to condition on. Verbs that edit images have --label, --prompt and --unknown-words; `genai sample` has all."""

    label: str | None = None
    prompt: str | None = None
    unknown_words: bool = False
    prompts: str | None = None
    per_label: int | None = None
    same_noise: bool = False
    shares: str | None = None

    def __post_init__(self) -> None:
        if self.unknown_words and not self.has_prompt:
            raise UserError("--unknown-words allows words of a prompt: add --prompt TEXT, or leave it out")

    @staticmethod
    def add_to(parser: VerbParser, default: str = "unconditional (null condition)", text: bool = True) -> None:
        """Add the options of a verb that gives all its images one condition."""
        group = parser.add_argument_group("condition")
        about = "4 or a class name; for attributes: glasses,no-beard"
        group.add_argument("--label", metavar="LABEL", help=f"{about}; default: {default}")
        if text:
            add_prompt_option(group)

    @staticmethod
    def add_sample_options(parser: VerbParser) -> None:
        """Add the options of `genai sample`, which can give each image its own condition."""
        group = parser.add_argument_group("condition")
        about = "4, a class name, 3,4,5 or all; for attributes: glasses,no-beard or all"
        group.add_argument("--label", metavar="LABEL", help=f"{about}; default: all classes, or labels of training images")
        group.add_argument("--per-label", type=positive, metavar="N", help="number of images of each label, instead of --num")
        add_prompt_option(group)
        text = f"text file with one prompt per line; each is a row of --per-label images (default: {PER_PROMPT})"
        group.add_argument("--prompts", metavar="FILE", help=text)
        group.add_argument("--same-noise", action="store_true", help="image j of each label or prompt has the same seed")
        group.add_argument("--shares", metavar="NAME=SHARE,...", help=SHARES_HELP)

    @property
    def has_prompt(self) -> bool:
        return self.prompt is not None or self.prompts is not None

    @property
    def is_empty(self) -> bool:
        """Whether no option sets a condition."""
        return not self.label and not self.has_prompt and not self.shares

    def with_per_label(self, num: int | None) -> "LabelOptions":
        """These options, with the default of --per-label for --prompts.

        Raises:
            UserError: --num and other options both say how many images to generate, --same-noise has nothing to pair, or
                --shares stands beside another condition.
        """
        if self.shares and (self.label or self.per_label or self.has_prompt):
            raise UserError(
                "--shares sets the condition of every image: leave --label, --per-label, --prompt and --prompts out"
            )
        if num and (self.per_label or self.prompts):
            other = "--prompts (--per-label images of each)" if self.prompts else "--per-label"
            raise UserError(f"--num and {other} both set the number of images: leave one of them out")
        if self.same_noise and not (self.per_label or self.prompts):
            raise UserError("--same-noise compares labels image by image: add --per-label N, or --prompts FILE")
        return replace(self, per_label=self.per_label or PER_PROMPT) if self.prompts else self

    def seeds(self, seed: int, num: int) -> Sequence[int]:
        """A seed for each of `num` images; with --same-noise those of one label are repeated for the others."""
        if self.same_noise and self.per_label:
            return list(image_seeds(seed, self.per_label)) * (num // self.per_label)
        return image_seeds(seed, num)

    def metadata(self) -> dict[str, str]:
        """The condition as PNG metadata."""
        text = self.label if self.prompt is None else self.prompt
        return ({"Label": text} if text else {}) | ({"Shares": self.shares} if self.shares else {})


def add_prompt_option(group: Any) -> None:
    """Add --prompt and --unknown-words."""
    group.add_argument(
        "--prompt", metavar="TEXT", help="caption, for a text-conditional model; for a model of text: how the text begins"
    )
    group.add_argument("--unknown-words", action="store_true", help="allow words that are in no training caption")


# -- conditions of images ------------------------------------------------------------------------------------------------


def sample_condition(labels: LabelOptions, num: int, source: LoadedRun) -> Tensor | None:
    """Conditions (N,) int64 classes, (N, K) float32 attributes or (N, L) int64 words; None for an unconditional model.

    N is `num`, or the number of labels times --per-label. Without a label, classes are cycled, and attributes and captions
    are those of training images.

    Raises:
        UserError: the options do not fit the model's kind of condition, or name a label that does not exist.
    """
    run = source.run
    check_number(labels.per_label or num, source.model.image_shape)
    if not source.model.conditional:
        if not labels.is_empty or labels.per_label:
            raise UserError(f"{run.path} is unconditional: leave --label, --per-label, --prompt and --shares out")
        return None
    names, kind = run.record()["class_names"], label_kind(source)
    if labels.is_empty and not labels.per_label:
        return default_condition(run, source.model, num, kind)
    if labels.label and kind == "class":
        warn_of_excluded(class_numbers(labels.label, names), names, run)
    if labels.shares:
        return shares_condition(labels.shares, num, source)
    if kind == "text":
        return text_condition(labels, num, run, names)
    if labels.has_prompt:
        raise UserError(f"{run.path} is conditioned on labels, not on text: use {LABEL_OPTIONS[kind]}")
    if kind == "attributes":
        settings = attribute_settings(labels.label, labels.per_label, names, exclusive_pairs(run))
        return attribute_vectors(settings, num, labels.per_label, label_examples(run).float())
    return class_labels(labels.label, num, labels.per_label, names)


def shares_condition(text: str, num: int, source: LoadedRun, examples: Tensor | None = None) -> Tensor:
    """Classes (num,) int64 or attributes (num, K) float32 with the shares that --shares names.

    Args:
        text: the value of --shares.
        num: number of images.
        source: a conditional model.
        examples: attributes (M, K) of training images; default: those in run.json.

    Raises:
        UserError: the model is conditioned on text, or the shares do not fit its classes or attributes.
    """
    names, kind = source.run.record()["class_names"], label_kind(source)
    if kind == "text":
        raise UserError(f"{source.run.path} is conditioned on text, which has no --shares: use --prompts FILE")
    if kind == "attributes":
        shares = parse_shares(text, names, "attribute")
        return attributes_with_shares(shares, num, label_examples(source.run) if examples is None else examples, names).float()
    return classes_with_shares(class_shares(text, names), num)


def edit_condition(labels: LabelOptions, num: int, source: LoadedRun) -> Tensor | None:
    """As `sample_condition`, but `num` null conditions if no option names a label or prompt."""
    if source.model.conditional and labels.is_empty:
        return null_condition(source, num)
    return sample_condition(labels, num, source)


def condition_or_labels(labels: LabelOptions, num: int, source: LoadedRun, split: ImageArray) -> Tensor | None:
    """The condition that --label names; without it, for a model of classes or attributes, the labels of real images in turn."""
    if source.model.conditional and labels.is_empty and label_kind(source) in ("class", "attributes"):
        return torch.from_numpy(split.labels[np.arange(num) % len(split)].copy())
    return sample_condition(labels, num, source)


def null_condition(source: LoadedRun, num: int) -> Tensor | None:
    """`num` null conditions, which make a conditional model unconditional: (num,), (num, K) or (num, L).

    None for an unconditional model.

    Raises:
        UserError: the model has no null condition.
    """
    if not source.model.conditional:
        return None
    if not has_null_condition(source.model):
        raise UserError(f"{source.run.path} is a conditional {type(source.model).__name__}, which needs a label: add --label")
    kind = label_kind(source)
    if kind == "text":
        return torch.zeros_like(label_examples(source.run)[:1]).repeat(num, 1)
    return torch.full((num,), -1) if kind == "class" else torch.full((num, source.model.num_classes), 0.5)


def has_null_condition(model: Any) -> bool:
    """Whether a conditional model works without a condition too: a GAN does not, it is never trained without."""
    return isinstance(model, Encodes) or not isinstance(model, Decodes)


def label_kind(source: LoadedRun) -> str:
    """`class`, `attributes` or `text`, from run.json or else from the data module."""
    return source.run.record().get("label_kind") or data_of(source.run, source.trust).label_kind


def text_condition(labels: LabelOptions, num: int, run: Run, vocabulary: Sequence[str]) -> Tensor:
    """The words (N, L) of the prompts, or of the captions of training images in turn."""
    examples = label_examples(run)
    if labels.label:
        caption = decode(examples[0].tolist(), vocabulary)
        raise UserError(f'{run.path} is conditioned on text: use --prompt "{caption}"')
    rows = examples
    if labels.has_prompt:
        texts = read_prompts(labels.prompt, labels.prompts)
        rows = caption_tokens(texts, vocabulary, examples.shape[1], labels.unknown_words)
    elif labels.per_label:
        raise UserError("--per-label is the number of images of each prompt: add --prompts FILE, or use --num")
    if labels.per_label:
        return rows.repeat_interleave(labels.per_label, dim=0)
    return rows[torch.arange(num) % len(rows)]


def warn_of_excluded(numbers: Sequence[int], class_names: Sequence[str], run: Run) -> None:
    """One line on stderr if the run's data module excludes classes of `numbers` from training."""
    arguments = (run.config().get("data") or {}).get("init_args") or {}
    unseen = sorted(set(numbers) & set(arguments.get("exclude") or ()))
    if unseen:
        print(
            f"{run.path} was trained without {', '.join(class_names[k] for k in unseen)} (data.exclude): "
            "their images are not of what the label says",
            file=sys.stderr,
        )


# -- classes -------------------------------------------------------------------------------------------------------------


def class_labels(label: str | None, num: int, per_label: int | None, class_names: Sequence[str]) -> Tensor:
    """The class of each image: `per_label` of each class in `label`, or `num` that cycle through these classes: (N,) int64."""
    numbers = class_numbers(label or "all", class_names)
    if per_label:
        return torch.tensor(numbers).repeat_interleave(per_label)
    return torch.tensor(numbers).repeat(num // len(numbers) + 1)[:num]


def class_numbers(text: str, class_names: Sequence[str]) -> list[int]:
    """`4`, `four`, `3,4` or `all` -> class numbers; UserError for a class that does not exist."""
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

Setting = dict[int, float]  # attribute number -> its value, 0 or 1


def exclusive_pairs(run: Run) -> list[tuple[int, int]]:
    """Pairs of attributes, by number, that no training image has both."""
    record = run.record()
    index = record["class_names"].index
    return [(index(one), index(other)) for one, other in record.get("label_exclusive", [])]


def attribute_settings(
    label: str | None, per_label: int | None, names: Sequence[str], pairs: Sequence[tuple[int, int]]
) -> list[Setting]:
    """The attributes to set: those that `label` names, or for `all` one setting for each attribute."""
    if label == "all" or (label is None and per_label):
        settings = [{k: 1.0} for k in range(len(names))]
    else:
        settings = [attribute_values(label, names)] if label else [{}]
    either_way = [*pairs, *((other, one) for one, other in pairs)]
    return [{other: 0.0 for one, other in either_way if setting.get(one)} | setting for setting in settings]


def attribute_values(text: str, names: Sequence[str]) -> Setting:
    """`glasses,no-beard` -> the value of each attribute named.

    Raises:
        UserError: there is no such attribute, or it is named with and without `no-`.
    """
    values: Setting = {}
    for part in text.split(","):
        name, value = (part, 1.0) if part in names else (part.removeprefix("no-"), 0.0)
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise UserError(f"there is no attribute {name!r}: {hint}choose from {', '.join(names)} (or no-NAME), or all")
        if values.setdefault(names.index(name), value) != value:
            raise UserError(f"--label {text} names both {name} and no-{name}: leave one of them out")
    return values


def attribute_vectors(settings: Sequence[Setting], num: int, per_label: int | None, examples: Tensor) -> Tensor:
    """Vectors (N, K): `examples` (M, K) in turn, with `per_label` of each setting, or `num` that take the settings in turn."""
    vectors = []
    for i in range(len(settings) * per_label if per_label else num):
        which, row = divmod(i, per_label) if per_label else (i % len(settings), i // len(settings))
        vector = examples[row % len(examples)].clone()
        for k, value in settings[which].items():
            vector[k] = value
        vectors.append(vector)
    return torch.stack(vectors)


# -- labels in words -----------------------------------------------------------------------------------------------------


def row_names(label: str | None, source: LoadedRun) -> list[str]:
    """The class or attributes of each row of a grid made with --per-label."""
    names: list[str] = source.run.record()["class_names"]
    if label in (None, "all"):
        return names
    return [str(label)] if label_kind(source) == "attributes" else [names[k] for k in class_numbers(str(label), names)]
