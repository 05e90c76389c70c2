"""What the config of a run may name: nothing that a run from elsewhere says is imported or called unless it is listed here.

A config is checked three times. Before parsing, every string of it that could be imported has to be the path of a listed class,
and no string may hold YAML, a URL or the name of a file. While jsonargparse parses it, jsonargparse itself refuses to import
anything else. After parsing, what came out is checked again, before anything is instantiated.

A run of this user's own (see signature.py) is not checked: its config is the user's own program.
"""

import inspect
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace, set_parsing_settings

from genai.errors import UserError, user_error
from genai.runs.directory import Run
from genai.runs.signature import is_own
from genai.runs.yaml_files import parse_yaml

try:  # read and restored, nothing else: `set_parsing_settings` cannot take back a denial of all imports
    from jsonargparse._common import parsing_settings
except ImportError:
    raise UserError("this jsonargparse is too new for genai: pip install 'jsonargparse==4.53.0'") from None

# Classes count by the module that defines them; those of a folder, with those of its files.
MODULES = (
    "genai.networks",
    "genai.models",
    *(
        f"torch.nn.modules.{name}"
        for name in (
            "activation",
            "batchnorm",
            "container",
            "conv",
            "dropout",
            "flatten",
            "instancenorm",
            "linear",
            "loss",
            "normalization",
            "padding",
            "pixelshuffle",
            "pooling",
            "sparse",
            "upsampling",
        )
    ),
)
# Of these modules, only the subclasses of one class; the first that fits counts.
SUBCLASSES = {
    "genai.data": "genai.data.module.DataModule",
    "torch.optim.lr_scheduler": "torch.optim.lr_scheduler.LRScheduler",
    "torch.optim": "torch.optim.optimizer.Optimizer",
}
CLASSES = (
    "genai.data.augment.Augment",
    "genai.training.callbacks.averages.Averages",
    "genai.training.callbacks.collapse.Collapse",
    "genai.training.callbacks.evaluation.EvaluateSamples",
    "genai.training.callbacks.gallery.Gallery",
    "genai.training.sharding.Sharded",
    "lightning.pytorch.callbacks.early_stopping.EarlyStopping",
    "lightning.pytorch.callbacks.gradient_accumulation_scheduler.GradientAccumulationScheduler",
    "lightning.pytorch.callbacks.lr_monitor.LearningRateMonitor",
    "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint",
    "lightning.pytorch.callbacks.model_summary.ModelSummary",
    "lightning.pytorch.callbacks.progress.rich_progress.RichProgressBar",
    "lightning.pytorch.callbacks.progress.tqdm_progress.TQDMProgressBar",
    "lightning.pytorch.callbacks.rich_model_summary.RichModelSummary",
    "lightning.pytorch.callbacks.timer.Timer",
    "lightning.pytorch.loggers.csv_logs.CSVLogger",
    "lightning.pytorch.loggers.tensorboard.TensorBoardLogger",
    "lightning.pytorch.profilers.advanced.AdvancedProfiler",
    "lightning.pytorch.profilers.simple.SimpleProfiler",
)
# Modules that may be imported to look for a listed class; importing them does nothing else.
LOOKED_IN = (
    "genai.data",
    "genai.models",
    "genai.networks",
    "genai.training",
    "lightning.pytorch.callbacks",
    "lightning.pytorch.loggers",
    "lightning.pytorch.profilers",
    "torch.nn",
    "torch.optim",
)
ENFORCING = threading.RLock()  # the settings of jsonargparse are those of the whole process
DENIED = ("torch.nn.utils", "torch.nn.parallel", "torch.nn.functional", "torch.nn.init", "torch.nn.parameter")


@dataclass(frozen=True)
class Policy:
    """What a config may name.

    Attributes:
        source: the config's file, for messages.
        packages: those that the user trusts; all that they define may be named.
        unrestricted: of a run of the user's own: everything may be named.
    """

    source: Path
    packages: tuple[str, ...] = ()
    unrestricted: bool = False

    def check(self, config: Any, section: str = "") -> None:
        """Raise UserError for a value of a config that would import, read or call something that is not listed.

        Args:
            config: a whole config, or one section of it.
            section: the name of the section; empty for a whole config.
        """
        if not self.unrestricted:
            self.check_value(config, (section,) if section else ())

    def check_parsed(self, value: Any) -> None:
        """The same for what jsonargparse made of a config: what classes and functions does it name?"""
        if self.unrestricted:
            return
        if isinstance(value, dict | Namespace):
            for key, entry in vars(value).items() if isinstance(value, Namespace) else value.items():
                if key == "class_path":
                    self.check_import(str(entry))
                self.check_parsed(entry)
        elif isinstance(value, list | tuple):
            for entry in value:
                self.check_parsed(entry)
        elif inspect.isroutine(value) or inspect.isclass(value) or inspect.ismodule(value):
            self.check_object(value, f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value)}")

    def check_value(self, value: Any, keys: tuple[str, ...]) -> None:
        """`check` for the value at `keys`, and for what is inside of it."""
        if isinstance(value, dict):
            for key, entry in value.items():
                if isinstance(key, str) and ("." in key or key.startswith("__")):
                    raise UserError(f"{self.source} has the key {key}, which is not a name of an option: remove it")
                if key == "class_path":
                    self.check_import(str(entry))
                self.check_value(entry, (*keys, str(key)))
        elif isinstance(value, list):
            for entry in value:
                self.check_value(entry, keys)
        elif isinstance(value, str):
            self.check_text(value, keys)

    def check_text(self, text: str, keys: tuple[str, ...]) -> None:
        """Raise UserError for a str that could be imported, holds YAML, or names a URL or another config."""
        where = ".".join(keys)
        parts = text.split(".")
        if len(parts) > 1 and all(part.isidentifier() for part in parts) and is_top_level_module(parts[0]):
            self.check_import(text)
            return
        if "://" in text:
            raise UserError(f"{self.source} sets {where} to the URL {text[:80]}: remove it")
        if any(mark in text for mark in "{[:\n") and isinstance(parse_text(text), dict | list):
            raise UserError(f"{self.source} has YAML inside of a string, at {where}: write it without quotes")
        if (keys[0], keys[-1]) not in (("data", "root"), ("evaluation", "weights")):
            self.check_no_file(text, where)

    def check_no_file(self, text: str, where: str) -> None:
        """Raise UserError where `text` names a file, which jsonargparse would read as a part of the config."""
        for folder in (Path(), self.source.parent):
            try:
                is_file = (folder / text).is_file()
            except (OSError, ValueError):  # no name of a file
                continue
            if is_file:
                raise UserError(f"{self.source} names the file {text[:80]} at {where}: write its content there, or remove it")

    def check_import(self, path: str) -> None:
        """Raise UserError unless `path` leads to a class that is listed, or to what a trusted package defines."""
        self.check_object(locate(path, self.packages), path)

    def check_object(self, found: Any, path: str) -> None:
        """`check_import` for the object that was found at `path`; None where it was not looked for, or is not there."""
        module = getattr(found, "__module__", None) or ""
        if (inspect.isclass(found) and is_listed(found)) or (module and module.split(".")[0] in self.packages):
            return
        package = module.split(".")[0] or path.split(".")[0]
        advice = f"if you trust it, add --trust {package} (trust=['{package}'])"
        if package in ("genai", "torch", "builtins", *sys.stdlib_module_names):
            advice = "a run from elsewhere may not use it"
        raise UserError(f"{self.source} names {path}, which is not among the classes of genai and torch for runs: {advice}")

    @contextmanager
    def refusing(self, file: str | Path | None = None) -> Iterator[None]:
        """Turn what is raised on values of `file` (the config) that make no sense into a UserError; not for one's own runs."""
        try:
            yield
        except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            if self.unrestricted or user_error(error) is not None:
                raise
            kind = f"{type(error).__name__}: " if file else ""
            raise UserError(f"{file or self.source} cannot be used: {kind}{reason_of(error)}") from None

    @contextmanager
    def enforced(self) -> Iterator[None]:
        """Inside, jsonargparse imports what is listed, or lies in trusted packages, and nothing else.

        Threads that do this at once wait for each other.
        """
        listed = [*MODULES, *SUBCLASSES, *CLASSES, *map(reexport, CLASSES), "torch.nn", *self.packages]
        with ENFORCING:
            before = dict(parsing_settings)
            try:
                set_parsing_settings(
                    instantiate_subclass_spec_in_any=False,
                    config_read_mode_urls_enabled=False,
                    config_read_mode_fsspec_enabled=False,  # Lightning switches it on; it stays off
                )
                if not self.unrestricted:
                    set_parsing_settings(import_path_denylist=["*", *DENIED], import_path_allowlist=listed)
                yield
            finally:
                parsing_settings.clear()
                parsing_settings.update(before)


def reexport(path: str) -> str:
    """The shorter path of a class of Lightning that its package offers; of others the path itself."""
    parts = path.split(".")
    return ".".join([*parts[:3], parts[-1]]) if parts[0] == "lightning" else path


def policy_of(source: Path, trust: Sequence[str]) -> Policy:
    """The policy for a config from elsewhere; UserError where a name in `trust` is not a package."""
    for name in trust:
        if not name.isidentifier() or name == "jsonargparse":
            raise UserError(f"--trust {name} is not a package that can be trusted: name one, such as --trust my_models")
    return Policy(source, tuple(trust))


def read_config(run: Run, trust: Sequence[str] = ()) -> tuple[dict[str, Any], Policy]:
    """The config of a run, read once, and what it may name; nothing of it is checked yet.

    Raises:
        UserError: config.yaml is missing or damaged, or a name in `trust` is not a package.
    """
    path = run.path / "config.yaml"
    content = run.config_bytes()
    policy = policy_of(path, trust)
    return run.config(content), Policy(path, policy.packages, is_own(run.path, content))


def instantiate(parser: ArgumentParser, config: dict[str, Any], policy: Policy) -> Namespace:
    """Parse a config that was checked, check what came of it, and instantiate its classes.

    Raises:
        UserError: the config names what its policy does not list, or does not fit the parser.
    """
    with policy.enforced(), policy.refusing():
        try:
            parsed = parser.parse_object(config)
        except ArgumentError as error:
            raise UserError(f"{policy.source} cannot be used: {reason_of(error)}") from None
        policy.check_parsed(parsed)
        instantiated: Namespace = parser.instantiate_classes(parsed)
    return instantiated


def reason_of(error: BaseException) -> str:
    """The cause in a message of jsonargparse, which puts it among all that it tried, in one line."""
    if module := missing_module(str(error)):
        return module
    causes = [line.strip(" -") for line in str(error).splitlines() if line.startswith("  - ")]
    return " ".join((causes[0] if causes else str(error) or type(error).__name__).split())[:300]


def missing_module(message: str) -> str | None:
    """The advice for a message of jsonargparse about a module that cannot be imported; None for another message."""
    found = re.search(r"No module named '([\w.]+)'", message)
    return f"there is no module {found[1]}: install it, or add its folder to PYTHONPATH" if found else None


def locate(path: str, packages: Sequence[str]) -> Any:
    """The object at an import path; None where there is none, or it lies outside of `LOOKED_IN` and `packages`."""
    module, _, name = path.rpartition(".")
    inside = any(module == folder or module.startswith(f"{folder}.") for folder in LOOKED_IN)
    if not inside and module.split(".")[0] not in packages:
        return None
    try:
        return getattr(import_module(module), name, None)
    except ImportError:
        return None


def is_listed(found: type) -> bool:
    """Whether a class may be named by a run from elsewhere."""
    module = found.__module__
    if f"{module}.{found.__qualname__}" in CLASSES or any(module == name or module.startswith(f"{name}.") for name in MODULES):
        return True
    for folder, base in SUBCLASSES.items():
        if module == folder or module.startswith(f"{folder}."):
            base_module, _, base_name = base.rpartition(".")
            return issubclass(found, getattr(import_module(base_module), base_name))
    return False


def is_top_level_module(name: str) -> bool:
    """Whether `import name` would find something; it is not imported."""
    try:
        return name in sys.modules or find_spec(name) is not None
    except (ImportError, ValueError):
        return True


def parse_text(text: str) -> Any:
    """What a str of a config means as YAML; the str itself where it is none."""
    try:
        return parse_yaml(text, "a string")
    except UserError:
        return text
