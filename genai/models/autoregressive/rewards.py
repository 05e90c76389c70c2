"""Rewards of texts: small classes that a YAML file names; a function of your own works too.

A reward maps N prompts and their N completions to N numbers; higher is better.
"""

import re
from abc import abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch.nn.functional import log_softmax

from genai.errors import UserError
from genai.models.base import Model
from genai.models.text import TextModel

TextReward = Callable[[Sequence[str], Sequence[str]], Sequence[float]]


class Reward:
    """A reward that scores each completion by itself."""

    def __call__(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        """The reward of each completion of its prompt, both of length N."""
        return [self.score(prompt, completion) for prompt, completion in zip(prompts, completions, strict=True)]

    @abstractmethod
    def score(self, prompt: str, completion: str) -> float:
        """The reward of one completion."""


class RightSum(Reward):
    """1 if the completion of `17+25=` is the sum and a line feed, otherwise 0."""

    def score(self, prompt: str, completion: str) -> float:
        operands = re.fullmatch(r"(\d+)\+(\d+)=", prompt)
        return float(operands is not None and completion == f"{int(operands[1]) + int(operands[2])}\n")


class Length(Reward):
    """The number of characters of the completion. It is a reward that can be hacked: long answers need not be right."""

    def score(self, prompt: str, completion: str) -> float:
        return float(len(completion))


class LastDigit(Reward):
    """1 if the last digit of the completion of `17+25=` is that of the sum, otherwise 0: a check that misses most digits."""

    def score(self, prompt: str, completion: str) -> float:
        operands = re.fullmatch(r"(\d+)\+(\d+)=", prompt)
        answer = re.fullmatch(r"(\d+)\n", completion)
        if operands is None or answer is None:
            return 0.0
        return float((int(operands[1]) + int(operands[2]) - int(answer[1])) % 10 == 0)


class LabelOfText:
    """ln p(label | completion) in nats, at least `lowest`, of a class-conditional model of bytes by Bayes' rule.

    All labels are equally likely before the text. White space is read as single spaces, and text after the context is not read.

    Args:
        run: of a model of bytes with labels, such as of configs/authors/ngram.yaml. Without the command line, call `use`.
        label: number of the label, in the order of the run's `class_names`.
        lowest: smallest reward.
    """

    def __init__(self, run: str, label: int, lowest: float = -10.0) -> None:
        self.run = run
        self.label = label
        self.lowest = lowest
        self.model: TextModel | None = None

    def use(self, model: Model) -> None:
        """Take the model of the run; UserError for one without labels, of other tokens or without this label."""
        if not isinstance(model, TextModel) or model.vocab_size != 257 or not 0 <= self.label < model.num_classes:
            raise UserError(
                f"the reward needs a model of bytes with labels and the label {self.label}, and {self.run} is another: "
                "name a run of configs/authors/ngram.yaml or gpt.yaml, and a label from 0"
            )
        self.model = model.eval()

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        if self.model is None:
            raise UserError(f"the reward has no model: load the run {self.run} and pass it to `use`")
        end, length, num_classes = self.model.vocab_size - 1, self.model.context_length, self.model.num_classes
        rows = [torch.tensor([end, *" ".join(text.split()).encode()[:length]]) for text in completions]
        tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1).to(self.model.device)  # (N, 1 + L)
        labels = torch.arange(num_classes, device=tokens.device).repeat_interleave(len(tokens))
        log_p = self.model.log_probs(tokens.clamp(min=0).repeat(num_classes, 1), labels).view(num_classes, *tokens.shape)
        log_p_text = (log_p * (tokens >= 0))[..., 1:].sum(dim=2)  # (K, N)
        rewards: list[float] = log_softmax(log_p_text, dim=0)[self.label].clamp(min=self.lowest).tolist()
        return rewards
