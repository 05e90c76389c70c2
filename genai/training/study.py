"""A study: the trials of a sweep in one SQLite file, which several processes share and a killed sweep continues.

It lies at runs/NAME-trials/study.db, beside the runs of its trials. Each running trial holds a lock that the system frees when
its process ends, so a trial without an owner is found at once.
"""

import hashlib
import math
import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from genai import runs
from genai.errors import UserError
from genai.files import locked, make_folder
from genai.metrics.tables import WrappedTable
from genai.shipped import config_path
from genai.terminal import visible
from genai.training.search import Parameter, as_options, short_names, with_preset

try:
    import optuna
    from optuna.exceptions import OptunaError, StorageInternalError
    from optuna.trial import FrozenTrial, Trial, TrialState
    from sqlalchemy.exc import SQLAlchemyError
except ImportError:
    raise UserError('`genai sweep` needs Optuna: pip install "genai[sweep]"') from None

optuna.logging.set_verbosity(optuna.logging.ERROR)
STARTUP_TRIALS = 4  # that are not pruned, and give the others something to be compared with
BUSY_SECONDS = 60.0  # to wait for another process that writes
IDENTITY = {
    "preset": "another preset",
    "digest": "a preset file that has changed since",
    "space": "another search space",
    "options": "other options",
}


@dataclass(frozen=True)
class StudySettings:
    """What a study searches; two sweeps with different ones are two studies.

    Attributes:
        configs: the presets and YAML files of `-c`.
        space: by the name of the option.
        options: of every trial, after the preset.
    """

    configs: tuple[str, ...]
    space: Mapping[str, Parameter]
    options: tuple[str, ...]

    def identity(self) -> dict[str, Any]:
        """As plain values."""
        content = b"".join(Path(config_path(config)).read_bytes() for config in self.configs)
        return {
            "preset": list(self.configs),
            "digest": hashlib.sha256(content).hexdigest()[:16],
            "space": {name: str(parameter) for name, parameter in sorted(self.space.items())},
            "options": list(self.options),
        }


def study_folder(name: str) -> Path:
    """The folder of a study and of the runs of its trials; UserError for a name that is not a name of a folder."""
    if not re.fullmatch(r"[\w-][\w.-]*", name):
        raise UserError(f"--study {name} is not a valid name: use letters, digits, `-` and `_`")
    return runs.runs_folder() / f"{name}-trials"


class Study:
    """The trials of a sweep.

    Args:
        name: of the study.
        settings: what it searches; None opens a study that is there.
        metric: that is minimised.
        unit: `epoch` or `validation`: at which scores are reported.

    Raises:
        UserError: a study of this name searches something else, cannot be read, or is not there; or an experiment has its name.
    """

    def __init__(self, name: str, settings: StudySettings | None, metric: str = "", unit: str = "epoch") -> None:
        self.name = name
        self.folder = study_folder(name)
        self.path = self.folder / "study.db"
        if settings is None and not self.path.is_file():
            raise UserError(f"there is no study {name} ({self.path}): `genai sweep -c PRESET --study {name}` begins one")
        others = runs.runs_folder() / name
        if not self.path.is_file() and any(map(runs.is_run, others.glob("*"))):
            raise UserError(f"{others} has runs already, which would count as seeds of the best trial: choose another --study")
        make_folder(self.folder)
        try:
            check_database(self.path)
            with locked(self.folder / "study.lock"):
                storage = optuna.storages.RDBStorage(
                    f"sqlite:///{self.path}", engine_kwargs={"connect_args": {"timeout": BUSY_SECONDS}}
                )
                pruner = optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS)
                self.study = optuna.create_study(study_name=name, storage=storage, pruner=pruner, load_if_exists=True)
                known = self.study.user_attrs.get("identity")
                if known is None and settings is not None:
                    self.study.set_user_attr("metric", metric)
                    self.study.set_user_attr("unit", unit)
                    self.study.set_user_attr("identity", settings.identity())
                self.metric = str(self.study.user_attrs.get("metric"))
                self.unit = str(self.study.user_attrs.get("unit", "epoch"))
        except (SQLAlchemyError, OptunaError, StorageInternalError, sqlite3.Error) as error:
            line = str(error).splitlines()[0]
            raise UserError(f"{self.path} cannot be read as a study ({line}): choose another --study") from None
        if known is not None and settings is not None:
            own = settings.identity()
            if differing := next((key for key in IDENTITY if not isinstance(known, dict) or known.get(key) != own[key]), None):
                raise UserError(
                    f"the study {name} was started with {IDENTITY[differing]}: use the same, or choose another --study"
                )

    def trials(self) -> list[FrozenTrial]:
        """All trials, by number."""
        return list(self.study.get_trials(deepcopy=False))

    def next(self, num_trials: int, space: Mapping[str, Parameter]) -> tuple[Trial, dict[str, Any], FileLock] | None:
        """A new trial with its options and its lock; None if the study has `num_trials`.

        Trials whose process was killed are marked as failed, and do not count.
        """
        with locked(self.folder / "study.lock"):
            for number in self.abandoned():
                with suppress(ValueError):  # it ended just now
                    self.study.tell(number, state=TrialState.FAIL)
            trials = self.trials()
            if sum(not was_killed(trial) for trial in trials) >= num_trials:
                return None
            self.study.sampler = optuna.samplers.TPESampler(seed=len(trials), constant_liar=True)
            trial = self.study.ask()
            lock = self.lock_of(trial.number)
            lock.acquire()
            return trial, {name: parameter.suggest(trial, name) for name, parameter in space.items()}, lock

    def lock_of(self, number: int) -> FileLock:
        """The lock that the process of a running trial holds."""
        return FileLock(self.folder / f"trial-{number:04d}.lock", timeout=0)

    def abandoned(self) -> list[int]:
        """Trials that are marked as running and whose process is gone."""
        found = []
        for trial in self.trials():
            if trial.state == TrialState.RUNNING:
                lock = self.lock_of(trial.number)
                with suppress(Timeout):
                    lock.acquire()
                    lock.release()
                    Path(lock.lock_file).unlink(missing_ok=True)
                    found.append(trial.number)
        return found

    def finish(self, trial: Trial, lock: FileLock, value: float | None, pruned: bool, error: str = "") -> None:
        """Keep the result of a trial, and release its lock.

        Args:
            trial: that has ended.
            lock: of `next`.
            value: its best score; None where it has none, which is a failure.
            pruned: whether it was stopped early.
            error: why it failed; empty for one that was killed, which will be replaced by another.
        """
        if error:
            trial.set_user_attr("error", error)
        if value is None or not math.isfinite(value):
            self.study.tell(trial, state=TrialState.FAIL)
        elif pruned:
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            self.study.tell(trial, value)
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)

    def best(self) -> FrozenTrial | None:
        """The complete trial with the lowest score; None before the first."""
        complete = [trial for trial in self.trials() if trial.state == TrialState.COMPLETE]
        return min(complete, key=lambda trial: (trial.value, trial.number), default=None)

    def check_best(self, space: Mapping[str, Parameter]) -> None:
        """Raise UserError unless the options of the best trial are of `space`: the file may be somebody else's."""
        best = self.best()
        params = best.params if best else {}
        strange = [name for name, value in params.items() if name not in space or not space[name].has(value)]
        if best and strange:
            raise UserError(
                f"{self.path} has the option {strange[0]} in trial {best.number}, which is not of this search space: choose "
                "another --study"
            )

    def best_command(self) -> list[str]:
        """The words of `genai fit` for the best trial; UserError before the first complete one."""
        best, identity = self.best(), self.study.user_attrs.get("identity")
        if best is None:
            raise UserError(f"no trial of the study {self.name} is complete: allow more with --trials")
        if not isinstance(identity, dict) or not all(isinstance(identity.get(key), list) for key in ("preset", "options")):
            raise UserError(f"{self.path} does not say which preset it is of: it is no study of `genai sweep`")
        return ["fit", *with_preset(identity["preset"]), *identity["options"], *as_options(best.params)]

    def num_running(self) -> int:
        """Trials of processes that are alive."""
        gone = self.abandoned()
        return sum(trial.state == TrialState.RUNNING and trial.number not in gone for trial in self.trials())

    def table(self) -> WrappedTable:
        """The trials, the best first; those without a score last."""
        trials = sorted(self.trials(), key=lambda trial: (score_of(trial), trial.number))
        names = short_names([name for trial in trials for name in trial.params])
        rows = []
        for trial in trials:
            best_at = min(trial.intermediate_values, key=trial.intermediate_values.__getitem__, default="")
            score = f"{score_of(trial):.4g}" if trial.intermediate_values else ""
            texts = [text(trial.params[name]) if name in trial.params else "" for name in names]
            rows.append([str(trial.number), state_of(trial), score, str(best_at), *texts])
        headings = ["trial", "state", self.metric, self.unit, *names.values()]
        return WrappedTable(list(map(visible, headings)), [list(map(visible, row)) for row in rows])


def check_database(path: Path) -> None:
    """Raise sqlite3.Error where `path` is a file with something else than studies, to which Optuna would add its tables."""
    if path.is_file() and path.stat().st_size:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)) as database:
            database.execute("SELECT 1 FROM studies LIMIT 1").fetchall()


def was_killed(trial: FrozenTrial) -> bool:
    """Whether a trial ended with its process, not by itself."""
    return trial.state == TrialState.FAIL and "error" not in trial.user_attrs


def state_of(trial: FrozenTrial) -> str:
    """`complete`, `pruned`, `failed`, `killed` or `running`."""
    names = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    return "killed" if was_killed(trial) else names.get(trial.state, "running")


def score_of(trial: FrozenTrial) -> float:
    """The lowest score of a trial; infinity without one."""
    return min(trial.intermediate_values.values(), default=math.inf)


def text(value: Any) -> str:
    """A value of an option in a table."""
    return f"{value:.3g}" if isinstance(value, float) else str(value).rpartition(".")[2]
