"""Search spaces of sweeps: options of a preset with bounds or choices, from YAML."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genai.errors import UserError
from genai.files import read_bounded
from genai.runs.yaml_files import MAX_CHARACTERS, parse_bounded
from genai.shipped import CONFIGS, preset_paths

PRIMITIVE = (str, int, float, bool, type(None))
HOW = "write `option: {low: 1, high: 8}`, with `log: true` for a logarithmic scale, or `option: {choices: [a, b]}`"


@dataclass(frozen=True)
class Parameter:
    """One option that a sweep varies.

    Attributes:
        low, high: bounds, both included; both int for an integer. None with choices.
        log: whether the scale is logarithmic.
        choices: values; empty with bounds. Lists and mappings are kept as JSON.
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Any, ...] = ()

    def has(self, value: Any) -> bool:
        """Whether `value` lies in the range."""
        if self.choices:
            return any(type(value) is type(choice) and value == choice for choice in self.choices)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and self.low is not None and self.high is not None and self.low <= value <= self.high

    def first(self) -> Any:
        """Some value of the range, to check the option with."""
        return self.choices[0] if self.choices else self.low

    def suggest(self, trial: Any, name: str) -> Any:
        """The value of an Optuna trial."""
        if self.choices:
            return trial.suggest_categorical(name, self.choices)
        suggest = trial.suggest_int if isinstance(self.low, int) else trial.suggest_float
        return suggest(name, self.low, self.high, log=self.log)


def read_space(path: Path) -> dict[str, Parameter]:
    """The options of a search space, by name.

    Raises:
        UserError: the file cannot be read, or an entry is no range and no list of choices.
    """
    try:
        content = parse_bounded(read_bounded(path, 4 * MAX_CHARACTERS).decode(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}): name a search space in YAML, such as sweeps/gan") from None
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path} is not a search space: {HOW}")
    return {str(name): parameter(str(name), entry, path) for name, entry in content.items()}


def parameter(name: str, entry: Any, path: Path) -> Parameter:
    """One entry of a search space; UserError where it makes no sense."""
    if isinstance(entry, dict) and entry.keys() == {"choices"} and isinstance(entry["choices"], list) and entry["choices"]:
        return Parameter(choices=tuple(v if isinstance(v, PRIMITIVE) else json.dumps(v) for v in entry["choices"]))
    if not isinstance(entry, dict) or not {"low", "high"} <= entry.keys() <= {"low", "high", "log"}:
        raise UserError(f"{path} has no range for {name}: {HOW}")
    low, high, log = as_number(entry["low"]), as_number(entry["high"]), entry.get("log", False)
    numbers = all(isinstance(bound, int | float) and not isinstance(bound, bool) for bound in (low, high))
    if not numbers or not low < high or not isinstance(log, bool) or (log and low <= 0):
        raise UserError(f"{path} has the range {low} to {high} for {name}: use numbers, low below high, above 0 with `log`")
    if not (isinstance(low, int) and isinstance(high, int)):
        low, high = float(low), float(high)
    return Parameter(low, high, log)


def as_number(bound: Any) -> Any:
    """A bound as YAML 1.2 reads it: PyYAML takes 1e-4, which has no dot, for a text."""
    try:
        return float(bound) if isinstance(bound, str) else bound
    except ValueError:
        return bound


def space_path(name: str | None, preset: Path) -> Path:
    """The file of a search space: a path, a shipped one such as `sweeps/gan`, or by default that of the preset's name.

    Raises:
        UserError: there is none.
    """
    known = preset_paths(CONFIGS)
    wanted = name or f"sweeps/{preset.stem}"
    if name and Path(name).is_file():
        return Path(name)
    found = known.get(wanted.removeprefix("configs/").removesuffix(".yaml"))
    if found is None or found.parent.name != "sweeps":
        there = ", ".join(sorted(other for other in known if other.startswith("sweeps/") and "wandb" not in other))
        raise UserError(f"there is no search space {wanted}: write one and name it with --space FILE (there: {there})")
    return found


def as_options(values: Mapping[str, Any]) -> list[str]:
    """Options of `genai fit`, each as `--name=value`."""
    return [f"--{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in values.items()]


def with_preset(configs: Sequence[str]) -> list[str]:
    """The `-c` arguments."""
    return [word for config in configs for word in ("-c", config)]


def short_names(names: list[str]) -> dict[str, str]:
    """The shortest end of each option's path that no other has: `generator_optimizer.init_args.lr` -> `generator lr`."""
    paths = {name: [part.removesuffix("_optimizer") for part in name.split(".") if part != "init_args"] for name in names}
    short = {}
    for name, parts in paths.items():
        ends = [" ".join(parts[-length:]) for length in range(1, len(parts) + 1)]
        others = [path for other, path in paths.items() if other != name]
        short[name] = next((e for n, e in enumerate(ends, 1) if all(path[-n:] != parts[-n:] for path in others)), ends[-1])
    return short
