"""genai sweep: search for better options of a preset on validation scores

Group: train and score
"""

import importlib
from pathlib import Path
from typing import Any

from rich.console import Console

from genai.cli.options.arguments import VerbParser, command, positive
from genai.errors import UserError
from genai.report.comparison import find_groups, score_table
from genai.shipped import CONFIGS, config_path
from genai.terminal import visible

OWN = ("--experiment", "--run_dir", "--resume", "--ckpt_path", "--seed_everything", "--trainer.fast_dev_run")


def parser() -> VerbParser:
    """The options of `genai sweep`."""
    verb = VerbParser(
        "sweep",
        "-c PRESET --study NAME [options]",
        "Search for better options of a preset. Each trial is a run in runs/NAME-trials/, chosen by Optuna from the scores on "
        "the validation split; trials that are worse than the others end early. The best options are then trained with K other "
        "seeds in runs/NAME/ and scored on the test split. The study is runs/NAME-trials/study.db: several processes may work "
        "at it, and the same command continues it.",
    )
    verb.add_argument("-c", "--config", metavar="PRESET", action="append", default=[], help="a preset or YAML file")
    verb.add_argument("--study", metavar="NAME", required=True, help="name of the study")
    text = "search space: a YAML file, or a shipped one (default: sweeps/MODEL of the preset DATA/MODEL)"
    verb.add_argument("--space", metavar="FILE", help=text)
    verb.add_argument("--trials", type=positive, default=30, metavar="N", help="trials of the study in all (default: 30)")
    text = "runs of the best trial with other seeds, from 2; 0: none (default: 3)"
    verb.add_argument("--seeds", type=int, default=3, metavar="K", help=text)
    verb.add_argument("--best", action="store_true", help="print the trials and the best command, and train nothing")
    return verb


def run(arguments: list[str]) -> None:
    """Train the trials that are missing, then the seeds of the best; print both tables."""
    verb = parser()
    if not arguments:
        verb.print_help()
        return
    options, rest = verb.parse_known_args(arguments)
    if options.best:
        show(importlib.import_module("genai.training.study").Study(options.study, None))
        return
    if not options.config:
        raise UserError(f"genai sweep needs a preset: `genai sweep -c digits/gan --study {options.study}`")
    if options.seeds < 0 or options.seeds == 1:
        raise UserError(f"--seeds {options.seeds} is out of range: use 2 or more for a spread, or 0 for none")
    if given := next((word for word in rest if word.split("=")[0] in OWN), None):
        raise UserError(f"{given.split('=')[0]} is chosen by the sweep: leave it out")
    study_module = importlib.import_module("genai.training.study")
    search, sweep = (importlib.import_module(f"genai.training.{name}") for name in ("search", "sweep"))
    configs = tuple(map(shortest_name, options.config))
    space = search.read_space(search.space_path(options.space, Path(config_path(configs[0]))))
    settings = study_module.StudySettings(configs, space, tuple(rest))
    study_module.study_folder(options.study)
    scoring = sweep.check(settings)
    study = study_module.Study(options.study, settings, scoring.metric, scoring.unit)
    study.check_best(space)
    sweep.run_trials(study, settings, scoring, options.trials)
    show(study)
    if running := study.num_running():
        print(f"{running} trials are still running in other processes, which will train the seeds")
    elif options.seeds and sweep.run_seeds(study, options.seeds):
        Console(highlight=False).print(score_table(find_groups([f"{options.study}@seeds"])))
        print(f"compare it: genai compare {options.study}@seeds OTHER@seeds")


def shortest_name(config: str) -> str:
    """`digits/gan` for that preset, whatever it was called; the path of another file."""
    path = Path(config_path(config)).resolve()
    return path.relative_to(CONFIGS).with_suffix("").as_posix() if path.is_relative_to(CONFIGS) else config


def show(study: Any) -> None:
    """Print the trials and the command of the best."""
    console = Console(highlight=False)
    console.print(study.table())
    best = study.best()
    if best is not None:
        print(f"best: trial {best.number}, {study.metric} {best.value:.4g}\n  {visible(command(*study.best_command()))}")
