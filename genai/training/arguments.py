"""From the arguments of fit, validate, test or predict to LightningCLI's arguments; parsing errors in one line."""

import argparse
import difflib
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import yaml
from lightning.pytorch.cli import LightningArgumentParser

from genai import runs
from genai.errors import DamagedFileError, UserError
from genai.files import read_bounded
from genai.runs.places import check_links, check_places
from genai.runs.trust import Policy, missing_module, read_config
from genai.runs.yaml_files import MAX_CHARACTERS, parse_bounded
from genai.shipped import config_path
from genai.training import cluster
from genai.training.devices import GPUS, has_gpu
from genai.training.record import command_line

ON_CPU = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto", "precision": 32}
OPTIMIZER_HINT = "of the model: --model.init_args.optimizer (two optimisers: .generator_optimizer, .discriminator_optimizer)"
SCHEDULE_HINT = "of the model: --model.init_args.lr_schedule"


class OwnParser(argparse.ArgumentParser):
    """argparse without abbreviations and without its usage text: an error is a UserError."""

    def __init__(self) -> None:
        super().__init__(add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise UserError(message)


@dataclass(frozen=True)
class Request:
    """The parsed arguments of fit, validate, test or predict.

    Attributes:
        run: the RUN that the command names; None for a new one.
        resume: the run of `--resume`.
        checkpoint: the checkpoint of `--checkpoint`: best, last, previous or a file.
        trust: packages of `--trust`.
        configs: the YAML files of `-c`, in order.
        experiment: the folder of `--experiment`, or of `experiment` in the last YAML file that has one.
        has_ckpt_path: whether Lightning's own `--ckpt_path` is given.
        rest: all arguments but RUN, --resume, --checkpoint, --trust and --changed_data, in order.
        changed_data: whether a run may be continued with other training images.
        given: all arguments as they were given.
    """

    run: str | None
    resume: str | None
    checkpoint: str | None
    trust: tuple[str, ...]
    configs: tuple[str, ...]
    experiment: str | None
    has_ckpt_path: bool
    rest: tuple[str, ...]
    changed_data: bool = False
    given: tuple[str, ...] = ()


def own_parser() -> OwnParser:
    """The options that LightningCLI does not have. None may be a prefix of one of torchrun's, which would take it."""
    parser = OwnParser()
    parser.add_argument("--resume", metavar="RUN")
    parser.add_argument("--checkpoint")
    parser.add_argument("--trust", action="append", default=[])
    parser.add_argument("--changed_data", action="store_true")
    return parser


def parse(arguments: Sequence[str]) -> Request:
    """Separate our own flags from LightningCLI's; `arguments` are those after the verb.

    Raises:
        UserError: a flag without its value, or a `-c` that names neither a file nor a preset, or a file that is not YAML.
    """
    shared = OwnParser()  # these stay among the arguments of LightningCLI
    shared.add_argument("-c", "--config", action="append", default=[])
    shared.add_argument("--experiment")
    shared.add_argument("--ckpt_path")
    words = list(with_paths(arguments))
    run = words.pop(0) if words and not words[0].startswith("-") else None
    own, rest = own_parser().parse_known_args(words)
    seen, _ = shared.parse_known_args(rest)
    experiments = [content.get("experiment") for content in map(check_config, seen.config)]
    return Request(
        run=run,
        resume=own.resume,
        checkpoint=own.checkpoint,
        trust=tuple(own.trust),
        configs=tuple(seen.config),
        experiment=seen.experiment or next((n for n in reversed(experiments) if n and isinstance(n, str)), None),
        has_ckpt_path=seen.ckpt_path is not None,
        rest=tuple(rest),
        changed_data=own.changed_data,
        given=tuple(arguments),
    )


GLUED = re.compile(r"(--config=|-c=?)([^=].*)")  # a flag and its value in one word


def with_paths(arguments: Sequence[str]) -> Iterator[str]:
    """The arguments, with the path of each preset that `-c NAME` names; UserError if there is none."""
    for before, word in pairwise(["", *arguments]):
        if before in ("-c", "--config"):
            yield config_path(word)
        elif glued := GLUED.fullmatch(word):
            yield glued[1] + config_path(glued[2])
        else:
            yield word


def check_config(name: str) -> dict[str, Any]:
    """The content of a `-c` file; UserError where it does not hold the options of a run in YAML."""
    try:
        content = parse_bounded(read_bounded(Path(name), 4 * MAX_CHARACTERS).decode(), name)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{name} cannot be read ({error}): name a YAML file in UTF-8") from None
    if content is None:
        raise UserError(f"{name} is empty: write the options of a run into it, such as those of configs/digits/gan.yaml")
    if isinstance(content, dict) and (empty := next((path for path in empty_sections(content)), None)):
        raise UserError(f"{name} has nothing below `{empty}`: write its options there, or remove the line")
    if not isinstance(content, dict):
        raise UserError(f"{name} holds no `option: value` lines: see configs/digits/gan.yaml")
    return content


def empty_sections(config: dict[str, Any]) -> list[str]:
    """The sections of a config that have no content."""
    sections = [
        name for name in ("model", "data", "trainer", "evaluation", "gallery", "collapse", "averages") if name in config
    ]
    inner = [f"{name}.init_args" for name in sections if isinstance(config[name], dict) and "init_args" in config[name]]
    return [
        *(name for name in sections if config[name] is None),
        *(path for path in inner if config[path.split(".")[0]]["init_args"] is None),
    ]


class Resolved(NamedTuple):
    """LightningCLI's arguments, and what the config among them may name; None where all of it is the user's own."""

    arguments: list[str]
    policy: Policy | None = None


def resolve(verb: str, request: Request) -> Resolved:
    """LightningCLI's arguments: the config and the checkpoint of the run that is meant, then the user's own options.

    Raises:
        UserError: there is no such run or checkpoint, or its config names what is not trusted.
    """
    if verb == "fit":
        return resolve_fit(request)
    if request.run is None and request.has_ckpt_path:
        return Resolved(list(request.rest))
    if request.run is None and not request.configs:
        raise UserError(f"genai {verb} needs a RUN: `genai runs` lists the runs")
    run = runs.find(request.run or request.experiment or experiment_name(request.configs[0]))
    if run.is_exported and request.checkpoint is not None:
        raise UserError(f"{run.path} is a zoo entry with one set of weights: leave --checkpoint out")
    checkpoint = None if run.is_exported else run.checkpoint(request.checkpoint or "best")
    return with_run(run, checkpoint, request)


def resolve_fit(request: Request) -> Resolved:
    """Expand `--resume RUN`; name the experiment of a new run after its first YAML file."""
    if request.run is not None:
        raise UserError(f"genai fit takes options alone, not `{request.run}`: -c FILE for a new run, --resume RUN for another")
    if request.resume:
        return resumed(runs.find(request.resume, trained=False), request)
    if cluster.is_requeued() and (earlier := run_of_job(command_line(["genai", "fit", *request.given]))):
        return resumed(earlier, Request(None, None, None, request.trust, (), None, False, (), request.changed_data))
    if request.checkpoint is not None:
        raise UserError("--checkpoint names where --resume RUN goes on: add it, or use --init_from RUN for initial weights")
    if request.changed_data:
        raise UserError("--changed_data has no effect without --resume: leave it out")
    if request.configs and request.experiment is None:
        return Resolved([*request.rest, "--experiment", experiment_name(request.configs[0])])
    return Resolved(list(request.rest))


def resumed(run: runs.Run, request: Request) -> Resolved:
    """The arguments that continue `run`: from the named checkpoint, else the last one, else from the start."""
    if run.is_exported:
        raise UserError(f"{run.path} is a zoo entry, which has no optimiser state: resume a run directory")
    has_none = request.checkpoint is None and not (run.path / "checkpoints/last.ckpt").is_file()
    return with_run(run, None if has_none else run.checkpoint(request.checkpoint or "last"), request)


def with_run(run: runs.Run, checkpoint: Path | None, request: Request) -> Resolved:
    """The arguments that reproduce a run's config, before the user's own.

    The config is read once: what was checked is what LightningCLI gets, as text.
    """
    config, policy = read_config(run, request.trust)
    run.record()  # refuses a run of another version
    config = {name: value for name, value in config.items() if name not in ("run_dir", "ckpt_path")}
    drop_given(config, request.rest)
    policy.check(config)
    check_places(config, run.path, policy)
    check_links(run.path, policy)
    arguments = ["-c", yaml.safe_dump(config, sort_keys=False), "--run_dir", str(run.path)]
    if (config.get("trainer") or {}).get("accelerator") in GPUS and not has_gpu():
        print(f"{run.path} was trained on a GPU, and there is none here: using one CPU process and float32", file=sys.stderr)
        arguments += [f"--trainer.{name}={value}" for name, value in ON_CPU.items()]
    return Resolved([*arguments, *(["--ckpt_path", str(checkpoint)] if checkpoint else []), *request.rest], policy)


def drop_given(config: dict[str, Any], arguments: Sequence[str]) -> None:
    """Remove the places of a run's config for which the user gives another one."""
    for section, key in (("data.init_args", "root"), ("trainer", "default_root_dir")):
        if any(word.split("=")[0] == f"--{section}.{key}" for word in arguments):
            part: Any = config
            for name in section.split("."):
                part = part.get(name) if isinstance(part, dict) else None
            if isinstance(part, dict):
                part.pop(key, None)


def run_of_job(command: str) -> runs.Run | None:
    """The run that the command started earlier in this job of the cluster."""
    for run in runs.all_runs():
        try:
            record = run.raw_record()
        except DamagedFileError as error:
            print(f"genai: {error}; looking for this job's run among the others", file=sys.stderr)
            continue
        if (record.get("job"), record.get("command")) == (cluster.job(), command):
            return run
    return None


def experiment_name(config: str) -> str:
    """configs/mnist/gan.yaml -> mnist-gan; any other file -> its stem."""
    path = Path(config)
    return f"{path.parent.name}-{path.stem}" if path.parent.parent.name == "configs" else path.stem


def model_options(arguments: Sequence[str]) -> list[str]:
    """The options of the model among `arguments`, each as `--model.key=value`."""
    following = [*arguments[1:], ""]
    pairs = [(a, after) for a, after in zip(arguments, following, strict=True) if a.startswith("--model.")]
    return [a if "=" in a else f"{a}={after}" for a, after in pairs]


# -- parsing errors ----------------------------------------------------------------------------------------------------------


UNSERIALIZED = "Unable to serialize instance"  # what jsonargparse writes in place of a value that YAML cannot hold
yaml.SafeDumper.add_multi_representer(Enum, lambda dumper, value: dumper.represent_data(value.value))  # Timer's interval


class Parser(LightningArgumentParser):
    """Turns a parsing error into one line that names the nearest option, and dumps YAML that can be read again."""

    def dump(self, cfg: Any, **settings: Any) -> str:  # type: ignore[override]
        """The options as YAML, without defaults that YAML cannot hold.

        A word is kept, such as the `pruning_fn` of ModelPruning: its type is a function or a str, and jsonargparse takes it for
        a function without an import path.
        """
        text = re.sub(rf"{UNSERIALIZED} (\w+)$", r"\1", super().dump(cfg, **settings), flags=re.MULTILINE)
        return "".join(line for line in text.splitlines(keepends=True) if f": {UNSERIALIZED}" not in line)

    def error(self, message: str, ex: Exception | None = None) -> None:  # type: ignore[override]
        raise UserError(condense(message, list(self.get_defaults(skip_validation=True).keys())))


UNKNOWN = re.compile(
    r"(?:Key|Option|option) '([\w.]+)' is not (?:expected|accepted)"
    r"|does not accept option '([\w.]+)'"
    r"|[Uu]nrecognized arguments?: --([\w.]+)"
)
ABSENT = re.compile(
    r"Parser key \"([\w.]+)\": (?:- Expected a path but (\S+) either not accessible"
    r"|-? ?Problem with given class_path '([\w.]+)': (?:module .* has no attribute|No module named))"
)


def condense(message: str, keys: Sequence[str]) -> str:
    """One line of a parser's message, with the nearest key of ours for an unknown one."""
    line = re.sub(r"\s+", " ", message).strip()
    section = re.match(r'Parser key "([\w.]+)"', line)
    unknown = UNKNOWN.search(line)
    if unknown:
        name = next(group for group in unknown.groups() if group)
        return f"there is no option `{name}`{f' in `{section.group(1)}`' if section else ''}: {hint(name, keys)}"
    line = re.sub(r"Does not validate against any of the Union subtypes Subtypes: \[.*?\] Errors: - ", "", line)
    absent = ABSENT.search(line)
    if absent:
        key, *paths = absent.groups()
        return f"option `{key}`: {no_class(next(filter(None, paths)))}"
    if module := missing_module(line):
        return module
    line = re.split(r" - Expected a <class 'NoneType'>| Given value type:", line)[0]
    return line if len(line) < 300 else line[:300] + " ..."


def hint(name: str, keys: Sequence[str]) -> str:
    """What to write instead of the unknown option `name`."""
    top = name.split(".")[0]
    if top in ("optimizer", "lr_scheduler"):
        return f"it is an option {OPTIMIZER_HINT if top == 'optimizer' else SCHEDULE_HINT}"
    close = difflib.get_close_matches(name, keys, n=1)
    return f"did you mean `{close[0]}`?" if close else "`--print_config` shows all options"


def no_class(path: str) -> str:
    """That there is no class at that path, and the nearest one of its module."""
    module, _, name = path.rpartition(".")
    close = difflib.get_close_matches(name, dir(sys.modules.get(module)), n=1)
    return f"there is no class {path}, " + (f"did you mean `{module}.{close[0]}`?" if close else "look for a typo in its path")
