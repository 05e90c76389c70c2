"""Rewards of texts: small classes that a YAML file names. A reward maps prompts and completions to numbers."""

import re
from abc import abstractmethod
from collections.abc import Sequence


class Reward:
    """A number for each completion; higher is better."""

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
