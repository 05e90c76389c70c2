"""The parser of our own verbs, groups of options as frozen dataclasses, and the types of option values."""

import argparse
import math
import shlex
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NoReturn, Self

from genai.errors import UserError

MAX_SEED = 2**31 - 1


class VerbParser(argparse.ArgumentParser):
    """The options of one verb. A mistake raises UserError, one line; argparse would print its usage and exit.

    Args:
        name: of the verb.
        usage: what follows the name in the usage line, such as `RUN IMAGE... [options]`.
        description: one to three sentences.
    """

    def __init__(self, name: str, usage: str, description: str) -> None:
        prog = f"genai {name}"
        super().__init__(prog, f"{prog} {usage}", description, formatter_class=HelpFormatter, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; `{self.prog} --help` explains the options")

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse `arguments` for `Options.from_namespace`. Without any, print the help if the verb needs arguments."""
        if not arguments and any(action.required for action in self._actions):
            self.print_help()
            self.exit()
        return self.parse_args(arguments)


class HelpFormatter(argparse.HelpFormatter):
    """argparse's layout, which does not break a line inside a word such as `no-beard`."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


@dataclass(frozen=True)
class Options:
    """A group of options: a subclass has one field for each and adds them to a parser in `add_to`.

    A field can be a group itself: its default factory is the group's class.
    """

    @classmethod
    def from_namespace(cls, namespace: argparse.Namespace) -> Self:
        """The group's values; a field whose option the verb lacks keeps its default."""
        values = {}
        for field in fields(cls):
            if isinstance(field.default_factory, type) and issubclass(field.default_factory, Options):
                values[field.name] = field.default_factory.from_namespace(namespace)
            elif field.name in namespace:
                values[field.name] = getattr(namespace, field.name)
        return cls(**values)


def add_trust_option(parser: argparse._ActionsContainer) -> None:
    """Add `--trust PACKAGE`, which every verb has."""
    parser.add_argument(
        "--trust",
        metavar="PACKAGE",
        action="append",
        default=[],
        help="a package besides genai and torch whose classes the run's config may name; may be repeated",
    )


def refuse(options: argparse.Namespace, names: Sequence[str], situation: str) -> None:
    """Raise UserError for the first of the options `names` that is given: it has no effect in this situation."""
    for name in names:
        if (value := getattr(options, name)) is not None and value is not False and value != []:
            raise UserError(f"--{name.replace('_', '-')} has no effect {situation}: leave it out")


def command(*words: object) -> str:
    """A `genai` command for a person to copy: words with spaces are quoted."""
    return shlex.join(["genai", *map(str, words)])


# -- types of option values ----------------------------------------------------------------------------------------------


def positive(text: str) -> int:
    """An integer of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least 1")
    return int(text)


def count(text: str) -> int:
    """An integer of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least 0")
    return int(text)


def positives(text: str) -> list[int]:
    """`1,60,200` -> [1, 60, 200]."""
    try:
        return [positive(part) for part in text.split(",")]
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of integers such as 1,60,200") from None


def random_seed(text: str) -> int:
    """An integer from 0 to 2147483647."""
    if not text.isdecimal() or int(text) > MAX_SEED:
        raise argparse.ArgumentTypeError(f"{text} is out of range: use an integer from 0 to {MAX_SEED}")
    return int(text)


def finite(text: str) -> float:
    """A number that is neither infinite nor NaN."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number such as 2")
    return value


def non_negative(text: str) -> float:
    """A number of at least 0."""
    if finite(text) < 0:
        raise argparse.ArgumentTypeError(f"{text} is out of range: use 0 or more")
    return finite(text)


def fraction(text: str) -> float:
    """A number from 0 to 1."""
    if not 0 <= finite(text) <= 1:
        raise argparse.ArgumentTypeError(f"{text} is out of range: use 0 to 1")
    return finite(text)
