"""--shares: conditions of samples with given shares of the classes or attributes."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from genai.errors import UserError

SHARES_HELP = (
    "shares of the conditions: `equal`, or 4=0.9 (the other classes share the rest equally); of attributes glasses=0.5,hat=0.2"
)
TOLERANCE = 1e-6


def class_shares(text: str, names: Sequence[str]) -> list[float]:
    """`equal` or `4=0.5,7=0.2` -> the share of each class, (K,); the classes not named share the rest equally.

    Raises:
        UserError: a class does not exist, or the shares do not fit into 1.
    """
    if text == "equal":
        return [1 / len(names)] * len(names)
    given = parse_shares(text, names, "class")
    rest = 1 - sum(given.values())
    num_others = len(names) - len(given)
    if rest < -TOLERANCE or (not num_others and rest > TOLERANCE):
        raise UserError(f"--shares {text} sums to {1 - rest:g}: the shares of classes sum to 1")
    return [given.get(k, max(rest, 0.0) / max(num_others, 1)) for k in range(len(names))]


def parse_shares(text: str, names: Sequence[str], what: str) -> dict[int, float]:
    """`glasses=0.5` -> {number of the class or attribute: its share}.

    Raises:
        UserError: a part is not NAME=SHARE with a known name and a share from 0 to 1, or a name is there twice.
    """
    given: dict[int, float] = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        if name not in names:
            raise UserError(f"--shares: there is no {what} {name!r}: choose from {', '.join(names)}")
        try:
            share = float(number)
        except ValueError:
            share = math.nan
        if not 0 <= share <= 1 or names.index(name) in given:
            raise UserError(
                f"--shares {part!r} should be NAME=SHARE, each name once, with a share from 0 to 1, such as {name}=0.5"
            )
        given[names.index(name)] = share
    return given


def classes_with_shares(class_shares: Sequence[float], num: int) -> Tensor:
    """(num,) int64 classes with these shares (K,), as exactly as their number allows; a prefix has the shares too.

    Image i is of the class that is farthest below its share of i + 1 images.
    """
    counts, chosen = [0] * len(class_shares), []
    for i in range(num):
        deficits = [share * (i + 1) - count for share, count in zip(class_shares, counts, strict=True)]
        k = max(range(len(counts)), key=lambda k: (round(deficits[k], 9), -k))
        counts[k] += 1
        chosen.append(k)
    return torch.tensor(chosen, dtype=torch.long)


def attributes_with_shares(attribute_shares: Mapping[int, float], num: int, examples: Tensor, names: Sequence[str]) -> Tensor:
    """(num, K) attribute vectors of training images, chosen so that the named attributes have these shares independently.

    Image i should have attribute k if the i-th number of a low-discrepancy sequence (Roberts 2018, R_d) is below the share of
    k; the vector is the next one of `examples` (M, K) with this combination.

    Raises:
        UserError: no example has a combination that the shares need.
    """
    numbers = list(attribute_shares)
    root = 1.5
    for _ in range(50):  # the root of x^(d + 1) = x + 1
        root = (1 + root) ** (1 / (len(numbers) + 1))
    used: dict[tuple[bool, ...], int] = {}
    rows = []
    for i in range(num):
        points = [(0.5 + (i + 1) * root ** -(j + 1)) % 1 for j in range(len(numbers))]
        wanted = tuple(point < attribute_shares[k] for point, k in zip(points, numbers, strict=True))
        matching = torch.nonzero((examples[:, numbers] > 0.5).eq(torch.tensor(wanted)).all(dim=1))[:, 0]
        if not len(matching):
            words = ", ".join(names[k] if value else f"no {names[k]}" for k, value in zip(numbers, wanted, strict=True))
            raise UserError(f"--shares: no known training image has {words}: name fewer attributes, or shares of 0 or 1")
        used[wanted] = used.get(wanted, -1) + 1
        rows.append(int(matching[used[wanted] % len(matching)]))
    return examples[rows]
