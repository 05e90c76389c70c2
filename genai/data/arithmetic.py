"""Sums such as 17+25=42, a share of them with a wrong answer; held-out sums are never in the training split."""

from typing import Any

import numpy as np

from genai.data.arrays import SPLITS
from genai.data.text import TextDataModule
from genai.data.token_cache import Documents, TextDocument
from genai.data.tokenizers import TokenizerKind
from genai.errors import UserError

HELD_OUT = 0.1  # share of val, and of test
SIZES = {"train": 1.0, "val": 0.1, "test": 0.1}  # of num_sums


class Sums(TextDataModule):
    """Documents `17+25=42` and a line feed, with operands of two digits, one for each window; no files are needed.

    A wrong answer is the right one of another sum. The pairs of operands are split, 17+25 together with 25+17: 80 % are train,
    and a pair of train occurs several times, with right and wrong answers.

    Args:
        num_sums: number of training sums; val and test have a tenth of it each.
        wrong: probability with which a right answer is replaced by a random sum, again and again while that is right too: the
            share of wrong answers in all splits, less a few (0.331 of 1/3 for operands up to 99).
        max_operand: the largest operand, 19 to 99; the smallest is 10.
        data_seed: of the sums.
        tokens, context_length, batch_size, options: see `TextDataModule`.

    Raises:
        UserError: a number is out of range.
    """

    name = "sums"
    by_document = True

    def __init__(
        self,
        num_sums: int = 30_000,
        wrong: float = 1 / 3,
        max_operand: int = 99,
        data_seed: int = 0,
        tokens: TokenizerKind = "characters",
        context_length: int = 11,
        batch_size: int = 256,
        **options: Any,
    ) -> None:
        super().__init__(tokens=tokens, context_length=context_length, batch_size=batch_size, **options)
        if num_sums < 100 or not 0 <= wrong < 1 or not 19 <= max_operand <= 99:
            raise UserError(
                f"num_sums {num_sums}, wrong {wrong}, max_operand {max_operand}: use 100 sums or more, a share below 1 and "
                "operands of 19 to 99"
            )
        self.num_sums = num_sums
        self.wrong = wrong
        self.max_operand = max_operand
        self.data_seed = data_seed

    def source(self) -> Any:
        return "made"

    def options(self) -> dict[str, Any]:
        return {"sums": self.num_sums, "wrong": self.wrong, "max_operand": self.max_operand, "data_seed": self.data_seed}

    def documents(self) -> Documents:
        rng = np.random.default_rng(self.data_seed)
        operands = range(10, self.max_operand + 1)
        pairs = [(a, b) for a in operands for b in operands if a <= b]
        pairs = [pairs[i] for i in rng.permutation(len(pairs))]
        held_out = round(HELD_OUT * len(pairs))
        parts = {"val": pairs[:held_out], "test": pairs[held_out : 2 * held_out], "train": pairs[2 * held_out :]}
        return {split: self.lines(parts[split], round(SIZES[split] * self.num_sums), rng) for split in SPLITS}

    def lines(self, pairs: list[tuple[int, int]], num: int, rng: np.random.Generator) -> list[TextDocument]:
        """`num` sums of random pairs, each in a random order."""
        found = []
        for number, i in enumerate(rng.integers(len(pairs), size=num)):
            a, b = pairs[i] if rng.random() < 0.5 else pairs[i][::-1]
            answer = a + b
            while rng.random() < self.wrong and answer == a + b:
                answer = int(rng.integers(10, self.max_operand + 1, size=2).sum())
            found.append(TextDocument(f"{number}", f"{a}+{b}={answer}\n"))
        return found
