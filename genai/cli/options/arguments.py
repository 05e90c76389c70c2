"""An argument parser whose mistakes are one line."""

import argparse
from pathlib import Path
from typing import NoReturn

from genai.errors import UserError


class VerbParser(argparse.ArgumentParser):
    """argparse, raising UserError in the place of printing its usage and leaving."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; `{self.prog} --help` explains the options")


def add_trust_option(verb: VerbParser) -> None:
    """`--trust PACKAGE`, as often as needed."""
    verb.add_argument("--trust", action="append", default=[], help="a package whose classes the config may name")


def whole_numbers(text: str) -> list[int]:
    """`1,60,200` -> [1, 60, 200]."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers such as 1,60,200") from None


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def output_path(given: str | None, default: Path, force: bool) -> Path:
    """The path to write: `given`, never over something there unless `force`; else the first free name like `default`."""
    if given is not None:
        path = Path(given)
        if not force and (any(path.iterdir()) if path.is_dir() else path.exists()):
            raise UserError(f"{path} is there already: choose another --out, or add --force")
        return path
    path = default
    count = 1
    while path.exists():
        path = default.with_stem(f"{default.stem}-{count}")
        count += 1
    return path
