"""What does not leave this machine with a run: secrets, and where files lie.

A secret is the value of an option whose name says so, the value of such an environment variable, the credentials of a URL, and
a text that looks like a key. An absolute path is shortened to the name of its file.
"""

import os
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

REMOVED = "REMOVED"
SECRET_NAME = re.compile(
    r"(^|[_.-])(api_?key|access_?key|key|token|password|passwd|secret|credentials?|authorization)($|[_.-](id|value)$)", re.I
)
DIGESTS = ("weights_sha256", "fingerprint", "sha256")  # long texts that are no secrets
KEYS = re.compile(
    r"\b(?:sk|pk|rk|ghp|gho|ghs|ghu|github_pat|glpat|hf|xox[abprs]|wandb_v1|AKIA|ASIA|AIza|ya29)[-_.]?[\w.-]{16,}"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"  # a JSON web token
    r"|-----BEGIN[\s\S]*?-----END[^-]*-----"
)
LONG = re.compile(r"(?<![\w+/-])[A-Za-z0-9+/_-]{32,}={0,2}(?![\w+/-])")
URL_CREDENTIALS = re.compile(r"(\w+://)[^\s/@]+@")
PATH = re.compile(r"(?<![\w/\\:.}>-])(?:~[\w-]*[/\\]|(?:\.\.[/\\])+|[A-Za-z]:[/\\]|file:///?|/(?=[\w.~]))[^\s'\"=,;()\[\]]*")


class Redaction:
    """Removes secrets and, if wanted, paths; `counts` says how many of each.

    Args:
        paths: whether absolute paths, and those outside of the current folder, are shortened.
    """

    def __init__(self, paths: bool = True) -> None:
        self.paths = paths
        self.counts: Counter[str] = Counter()
        named = [value for name, value in os.environ.items() if SECRET_NAME.search(name) and len(value) >= 8]
        self.of_environment = sorted(named, key=len, reverse=True)

    def value(self, value: Any, name: str = "") -> Any:
        """A copy of a nested value without secrets and paths.

        Args:
            value: dicts, lists, and plain values.
            name: the key that it has in its dict.
        """
        if isinstance(value, Mapping):
            return {key: self.value(entry, str(key)) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(entry, name) for entry in value]
        return self.text(value, name) if isinstance(value, str) else value

    def text(self, text: str, name: str = "") -> str:
        """A text without secrets and paths; `name` is that of the option that it is a value of."""
        if text and SECRET_NAME.search(name):
            return self.count("secret", REMOVED)
        if name in DIGESTS:
            return text
        for secret in self.of_environment:
            if secret in text:
                text = text.replace(secret, self.count("secret", REMOVED))
        text = KEYS.sub(lambda _: self.count("secret", REMOVED), text)
        text = LONG.sub(lambda found: self.count("secret", REMOVED) if is_random(found[0]) else found[0], text)
        text = URL_CREDENTIALS.sub(lambda found: found[1] + self.count("secret", ""), text)
        if not self.paths:
            return text
        if text.startswith(("/", "~", "..")) or PureWindowsPath(text).is_absolute():  # a path alone may have spaces
            return self.count("path", file_name(text))
        return PATH.sub(lambda found: self.count("path", file_name(found[0])), text)

    def words(self, words: Sequence[str]) -> list[str]:
        """The words of a command line, where a secret may follow its option in the same word or in the next one."""
        kept: list[str] = []
        for i, word in enumerate(words):
            option, equals, value = word.partition("=")
            before = words[i - 1] if i else ""
            if option.startswith("-") and equals:
                kept.append(f"{option}={self.text(value, option.lstrip('-'))}")
            else:
                name = before.lstrip("-") if before.startswith("-") and "=" not in before else ""
                kept.append(self.text(word, "" if word.startswith("-") else name))
        return kept

    def command(self, command: str) -> str:
        """A command line as run.json has it."""
        try:
            return shlex.join(self.words(shlex.split(command)))
        except ValueError:  # quotes that do not close
            return self.text(command)

    def count(self, kind: str, replacement: str) -> str:
        """Count what is replaced; returns the replacement."""
        self.counts[kind] += 1
        return replacement

    def summary(self) -> str:
        """What was removed, for a message: `2 secrets, 1 path`; empty if there was nothing."""
        return ", ".join(f"{num} {kind}{'s' * (num > 1)}" for kind, num in sorted(self.counts.items(), reverse=True))


def file_name(path: str) -> str:
    """The last part of a POSIX or Windows path, unless it is the name of the user."""
    name = PureWindowsPath(path).name if "\\" in path else PurePosixPath(path).name
    return REMOVED if name in ("", "..", "~", Path.home().name) else name


def is_random(text: str) -> bool:
    """Whether a long word looks random: hexadecimal digits, or letters of both cases and digits."""
    if "/" in text and max(map(len, text.split("/"))) < 20:  # a path
        return False
    has_digit = any(character.isdigit() for character in text)
    is_hexadecimal = all(character in "0123456789abcdefABCDEF" for character in text)
    is_mixed = any(character.islower() for character in text) and any(character.isupper() for character in text)
    return has_digit and (is_hexadecimal or is_mixed)
