"""Trials of a sweep and the seeds of its winner, each an ordinary fit in this process."""

import io
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import lightning as L
from filelock import FileLock, Timeout

from genai import runs
from genai.errors import UserError
from genai.training import launch
from genai.training.arguments import parse
from genai.training.callbacks.preemption import Stopped
from genai.training.callbacks.pruning import ReportScores
from genai.training.lightning_cli import GenaiCLI
from genai.training.record import command_line
from genai.training.search import as_options, with_preset
from genai.training.study import Study, StudySettings

QUIET = ("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false")
MAX_FAILURES = 3  # in a row at the beginning of a study: its settings are invalid
FIRST_SEED = 1  # of the winner's runs: the trials have seed 0


class Scoring(NamedTuple):
    """What a trial reports.

    metric: that best.ckpt minimises.
    every_n_epochs: between its values.
    unit: `epoch`, or `validation` where validation goes by steps.
    """

    metric: str
    every_n_epochs: int
    unit: str


def check(settings: StudySettings) -> Scoring:
    """Parse the options of a trial and build its model, without writing anything.

    Raises:
        UserError: an option does not exist or makes no sense, no epoch is scored, or the trainer has several devices.
    """
    launch.quiet_libraries()
    first = as_options({name: parameter.first() for name, parameter in settings.space.items()})
    words = [*with_preset(settings.configs), *settings.options, *first, "--trainer.fast_dev_run=true", "--tracker=none"]
    request = parse([*words, "--experiment=check"])
    with quiet():
        cli = GenaiCLI("fit", request.rest, request.trust)
    options, epochs = cli.options, cli.trainer.max_epochs
    if cli.trainer.num_devices * cli.trainer.num_nodes > 1:
        raise UserError("a sweep trains on one device: add --trainer.devices 1, and start `genai sweep` once for each device")
    if options.trainer.check_val_every_n_epoch is None:
        return Scoring(options.best_metric, 1, "validation")
    every = int(options.evaluation.every_n_epochs)
    planned = options.trainer.max_epochs or epochs
    if not every or (planned and 0 < planned < every):
        allowed = "1" if planned == 1 else f"a value from 1 to {planned or 'the number of epochs'}"
        raise UserError(f"no epoch of a trial would be scored: set --evaluation.every_n_epochs to {allowed} (it is {every})")
    return Scoring(options.best_metric, every, "epoch")


def run_trials(study: Study, settings: StudySettings, scoring: Scoring, num_trials: int) -> None:
    """Train until the study has `num_trials`, those of other processes included; a line for each.

    Raises:
        UserError: a signal stopped the sweep, or the first trials all fail.
    """
    start = [*with_preset(settings.configs), f"--wandb.group={study.name}", *settings.options]
    while found := study.next(num_trials, settings.space):
        trial, values, lock = found
        report, error = ReportScores(trial, scoring.metric, scoring.every_n_epochs), "killed"
        try:
            run_dir = fit([*start, *as_options(values), f"--experiment={study.folder.name}"], [report])
            trial.set_user_attr("run", str(run_dir))
            error = "" if report.best is not None else f"{scoring.metric} was not measured"
        except UserError as failure:
            if isinstance(failure.__context__, Stopped):
                raise UserError(f"the sweep was {failure.__context__}: the same command continues it") from None
            error = str(failure)
        finally:
            own = "" if error == "killed" else error
            study.finish(trial, lock, None if error else report.best, report.is_pruned, own)
        result = f"failed: {error}" if error else f"{scoring.metric} {report.best:.4g} at {scoring.unit} {report.best_at}"
        best = study.best()
        beside = f"; best: trial {best.number}, {best.value:.4g}" if best else ""
        print(f"trial {trial.number}: {result}{' (pruned)' if report.is_pruned else ''}{beside}", flush=True)
        failed = ["error" in t.user_attrs for t in study.trials()]
        if error and len(failed) >= MAX_FAILURES and all(failed):
            raise UserError(f"the first {len(failed)} trials of the study {study.name} failed, the last one: {error}")


def run_seeds(study: Study, num_seeds: int) -> bool:
    """Train the best trial's options again with `num_seeds` other seeds, in runs/NAME, and score each on the test split.

    Seeds that are there already, of the same options, are not repeated. False if another process does this.
    """
    lock = FileLock(study.folder / "winner.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return False
    with lock:
        for seed in range(FIRST_SEED, FIRST_SEED + num_seeds):
            words = [*study.best_command()[1:], f"--experiment={study.name}", f"--seed_everything={seed}"]
            if not is_scored(study.name, words):
                print(f"best trial with seed {seed}", flush=True)
                run_dir = fit(words)
                with quiet():
                    launch.run("test", [str(run_dir), *[word for word in QUIET if "progress" in word], "--tracker=none"])
    return True


def is_scored(experiment: str, words: Sequence[str]) -> bool:
    """Whether a run of these options, which name its seed, has test scores."""
    command = command_line(["genai", "fit", *words, *QUIET])
    found = [run for run in runs.all_runs() if run.path.parent.name == experiment]
    return any("test" in run.scores() and run.record().get("command") == command for run in found)


def fit(arguments: list[str], callbacks: Sequence[L.Callback] = ()) -> Path:
    """Run `genai fit` without its output; returns the run directory."""
    with quiet():
        run_dir = launch.run("fit", [*arguments, *QUIET], callbacks)
    assert run_dir is not None
    return run_dir


@contextmanager
def quiet() -> Iterator[None]:
    """Hide what a fit prints, but its errors."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
