"""Where metrics go: metrics.csv always, and W&B or TensorBoard. The step is images_seen (see callbacks/axis.py)."""

import csv
import difflib
import io
import os
import shlex
import sys
import time
import urllib.error
import urllib.request
from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import platformdirs
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from genai.errors import UserError, WriteError
from genai.files import cache_folder, make_folder, read_csv, write_atomically
from genai.runs import Run

SECONDS_BETWEEN_WRITES = 10
CONNECT_SECONDS = 3.0
WANDB_MODES = ("online", "offline", "disabled", "shared", "dryrun", "run")
Tracker = Literal["wandb", "csv", "tensorboard", "none"]


class MetricsCSV(Logger):
    """Appends to RUN/metrics.csv: one row per `images_seen`, one column per metric.

    Lightning's CSVLogger deletes what an earlier process of the same run wrote; a resumed run continues this file.

    Args:
        run_dir: the run directory.
        axis: name of the first column: `images_seen`, or `tokens_seen` of a text model.
    """

    def __init__(self, run_dir: Path, axis: str = "images_seen") -> None:
        super().__init__()
        self.run_dir = run_dir
        self.path = run_dir / "metrics.csv"
        self.axis = axis
        self.columns = [axis]
        self.rows: dict[int, dict[str, Any]] = {}
        self.damaged = b""  # an earlier file that cannot be read as a whole
        if self.path.is_file():
            self.read()
        self.changed = False
        self.written = time.monotonic()

    def read(self) -> None:
        """Take the rows of an earlier file. One with torn lines is named on stderr, and kept when a new one is written."""
        rows, num_torn = read_csv(self.path)
        readable = [row for row in rows if row.get(self.axis, "").isdecimal()]
        self.columns = list(readable[0] if readable else self.columns)
        self.rows = {int(row[self.axis]): {key: value for key, value in row.items() if value} for row in readable}
        if num_lost := num_torn + len(rows) - len(readable):
            self.damaged = self.path.read_bytes()
            print(
                f"genai: {self.path} has {num_lost} damaged lines: kept in {self.backup.name}, left out here", file=sys.stderr
            )

    @property
    def backup(self) -> Path:
        """Where a damaged file is kept."""
        return self.path.with_name("metrics.damaged.csv")

    @property
    def save_dir(self) -> str:
        """The run directory: Lightning puts profiles and a user's checkpoints there."""
        return str(self.run_dir)

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        values = {key: value for key, value in metrics.items() if key not in ("epoch", self.axis)}
        if not values or step is None:
            return
        self.columns += [key for key in values if key not in self.columns]
        self.rows.setdefault(step, {self.axis: step}).update(values)
        self.changed = True
        self.save()

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing: config.yaml is in the same folder."""

    @rank_zero_only
    def forget_after(self, images_seen: int) -> None:
        """Drop the rows after `images_seen`, at which a resumed fit starts: they will be written again."""
        self.rows = {step: row for step, row in self.rows.items() if step <= images_seen}
        self.changed = True

    def save(self) -> None:
        """Write the file if the last write was long ago: Lightning calls this after each value that it logs."""
        if time.monotonic() - self.written > SECONDS_BETWEEN_WRITES:
            self.write()

    @rank_zero_only
    def write(self) -> None:
        """Write the file, whole or not at all."""
        if not self.changed:
            return
        if self.damaged:
            write_atomically(self.backup, self.damaged)
            self.damaged = b""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns)
        writer.writeheader()
        writer.writerows(self.rows[step] for step in sorted(self.rows))
        write_atomically(self.path, text.getvalue())
        self.changed = False
        self.written = time.monotonic()

    def finalize(self, status: str) -> None:
        self.write()


@dataclass(frozen=True)
class WandbOptions:
    """How a run is filed in Weights & Biases. What is not given here comes from W&B's own environment variables.

    Args:
        project: the project; else $WANDB_PROJECT, else `genai`.
        group: of runs, such as the seeds of one model; else $WANDB_RUN_GROUP.
        tags: words to filter by; else $WANDB_TAGS, separated by commas.
        notes: a text about the run; else $WANDB_NOTES.
        name: of the run; else $WANDB_NAME, else `experiment/run`.
    """

    project: str | None = None
    group: str | None = None
    tags: list[str] | None = None
    notes: str | None = None
    name: str | None = None


def check_mode() -> str:
    """$WANDB_MODE, or an empty string; UserError for one that W&B does not know."""
    mode = os.environ.get("WANDB_MODE", "")
    if mode and mode not in WANDB_MODES:
        close = difflib.get_close_matches(mode, WANDB_MODES, n=1)
        raise UserError(f"WANDB_MODE={mode} is not a mode of W&B: use {close[0] if close else ', '.join(WANDB_MODES)}")
    return mode


def wandb_mode() -> tuple[str, str]:
    """W&B's mode and, for `offline`, the reason.

    The mode is $WANDB_MODE; without one, `online` where a key is configured and the server is reached, else `offline`.

    Raises:
        UserError: $WANDB_MODE is not a mode.
    """
    import wandb

    os.environ.setdefault("WANDB_SILENT", "true")
    try:
        make_folder(Path(platformdirs.user_cache_dir("wandb")))
    except WriteError:  # W&B would print its log instead
        os.environ.setdefault("WANDB_CACHE_DIR", str(cache_folder() / "wandb"))
    mode = check_mode()
    if mode and mode != "online":
        return mode, f"WANDB_MODE={mode}"
    if not wandb.login(prompt=False, verify=False):
        return "offline", "no key configured"
    server = wandb.setup().settings.base_url
    return ("online", "") if is_reached(server) else ("offline", f"{server} is not reached")


def is_reached(url: str) -> bool:
    """Whether a server answers within a few seconds, whatever it says."""
    try:
        urllib.request.urlopen(url, timeout=CONNECT_SECONDS).close()
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False
    return True


def wandb_logger(
    run_dir: Path, tracker_id: str, config: dict[str, Any], options: WandbOptions, explain_offline: bool = True
) -> WandbLogger:
    """The run's W&B logger; if it is offline and `explain_offline`, lines say why and how to upload the run later.

    Raises:
        UserError: $WANDB_MODE is not a mode, the server refuses the run, or run.json has a tracker id that genai did not make.
    """
    import wandb

    if not tracker_id.isalnum():  # it becomes a part of paths
        raise UserError(f"{run_dir}/run.json has the tracker_id {tracker_id!r}, which genai did not make: use --tracker csv")
    mode, reason = wandb_mode()
    folder = run_dir / "logs"
    make_folder(folder)
    name = options.name or os.environ.get("WANDB_NAME") or Run(run_dir).name
    project = options.project or os.environ.get("WANDB_PROJECT") or "genai"
    filed: dict[str, Any] = {"group": options.group, "tags": options.tags, "notes": options.notes}  # else W&B's variables
    logger = WandbLogger(name=name, save_dir=folder, project=project, id=tracker_id, resume="allow", mode=mode, **filed)
    with redirect_stderr(io.StringIO()) if mode == "offline" else nullcontext():  # W&B warns of what Lightning passes
        try:
            logger.log_hyperparams(config)
        except wandb.errors.Error as error:
            message = str(error).splitlines()[0]
            raise UserError(f"W&B refuses the run ({message}): `wandb login`, WANDB_MODE=offline or --tracker csv") from None
    if mode == "offline" and explain_offline:
        print(f"W&B is offline ({reason}); to upload later:\n  wandb sync {shlex.quote(str(folder))}/wandb/offline-run-*")
    return logger


def log_report(run_dir: Path, tracker_id: str, config: dict[str, Any], path: Path) -> None:
    """Show an HTML file as `report` in the W&B run of a run directory, which goes on for that.

    Args:
        run_dir: the run directory.
        tracker_id: of run.json.
        config: of config.yaml.
        path: of the file.

    Raises:
        UserError: see `wandb_logger`.
    """
    import wandb

    logger = wandb_logger(run_dir, tracker_id, config, WandbOptions(**(config.get("wandb") or {})))
    logger.experiment.log({"report": wandb.Html(str(path), inject=False)})
    finish([logger])


def finish(loggers: Sequence[Logger]) -> None:
    """Close the trackers' runs, so that all is on disk or uploaded, and a later fit of this process starts its own run."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()


def loggers(
    tracker: Tracker,
    run_dir: Path,
    tracker_id: str,
    config: dict[str, Any],
    axis: str,
    options: WandbOptions,
    explain_offline: bool = True,
) -> list[Logger]:
    """metrics.csv and the chosen tracker; the other arguments are those of `MetricsCSV` and `wandb_logger`."""
    chosen: list[Logger] = [MetricsCSV(run_dir, axis)]
    if tracker == "wandb":
        chosen.append(wandb_logger(run_dir, tracker_id, config, options, explain_offline))
    elif tracker == "tensorboard":
        chosen.append(TensorBoardLogger(run_dir / "logs", name="", version="tensorboard"))
    return chosen
