"""Mode collapse during training, reported after each evaluated epoch: a line, a table and a chart."""

from pathlib import Path
from textwrap import fill

import lightning as L
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from lightning.pytorch.loggers import WandbLogger

from genai.files import open_atomically
from genai.metrics.collapse import Thresholds, diagnose
from genai.metrics.evaluation import EvaluationResult
from genai.training.callbacks.collapse_chart import collapse_chart
from genai.training.callbacks.collapse_events import MESSAGES, Row, make_row, next_event, read_rows, rows_before, write_rows
from genai.training.callbacks.evaluation import latest_result, step_of
from genai.training.callbacks.run_directory import run_dir_of

WIDTH = 80  # columns of a terminal


class Collapse(L.Callback):
    """Reports when the samples collapse onto some of the classes, when that gets worse and when it ends.

    It reads the results of `EvaluateSamples` and computes nothing on images itself, so it is idle in epochs that are not
    evaluated. It logs `val/collapsed` (0 or 1). If the Trainer has a `RunDirectory`, it writes RUN/samples/collapse.csv, one
    row for each evaluated epoch, and RUN/samples/collapse.png if there are at most 20 classes. A resumed run keeps the rows up
    to its checkpoint.

    A class is over-represented or missing if its share is off by the factors below and by more than chance: Fisher's exact test
    against the real images, with Bonferroni's correction for the number of classes. Samples are collapsed if the affected
    classes have at least the weight `min_affected` and the samples are like the data: the predicted classes of noise have no
    meaning.

    Args:
        max_share_ratio: a class is over-represented if its share is at least this multiple of its real share.
        min_share_ratio: a class is missing if its share is at most this multiple of its real share.
        min_recall: if the feature network has no classes: collapsed below this multiple of the floor's recall.
        min_affected: the smallest excess of the over-represented classes, or real share of the missing ones, that is a
            collapse.
        min_precision: samples are like the data if precision is at least this multiple of the floor's.
        significance: largest probability that any class of an even model is called over-represented (or missing) at one epoch.
    """

    def __init__(
        self,
        max_share_ratio: float = 2.0,
        min_share_ratio: float = 0.1,
        min_recall: float = 0.25,
        min_affected: float = 0.05,
        min_precision: float = 0.3,
        significance: float = 0.001,
    ) -> None:
        self.thresholds = Thresholds(max_share_ratio, min_share_ratio, min_recall, min_affected, min_precision, significance)
        self.rows: list[Row] = []
        self._reported: EvaluationResult | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Read the rows of the run that is resumed, up to the checkpoint."""
        self._reported = latest_result(trainer)
        self.rows = []
        path = table_path(trainer)
        if path is None or not trainer.is_global_zero or not path.is_file():
            return
        self.rows = rows_before(read_rows(path), int(getattr(pl_module, "images_seen", 0)) + 1)
        write_rows(path, self.rows)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report a new result. Every callback has finished `on_validation_epoch_end` by now, whatever their order."""
        result = latest_result(trainer)
        if result is None or result is self._reported or trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        self._reported = result
        if not trainer.is_global_zero:
            return
        self.report(result, trainer.current_epoch + 1, int(pl_module.images_seen), table_path(trainer))  # type: ignore[arg-type]
        for logger in trainer.loggers:
            collapsed = float(self.rows[-1]["state"] == "collapsed")
            logger.log_metrics({"val/collapsed": collapsed}, step=step_of(trainer))
        self.write_chart(trainer, result)

    def report(self, result: EvaluationResult, epoch: int, images_seen: int, path: Path | None) -> None:
        """Add a row, write the table to `path` and print a line if there is an event."""
        diagnosis = diagnose(result, self.thresholds)
        self.rows = rows_before(self.rows, images_seen)
        event = next_event(self.rows, diagnosis)
        self.rows.append(make_row(epoch, images_seen, result, diagnosis, event))
        if event:  # Tqdm prints above the progress bar, if there is one
            message = f"{MESSAGES[event]} epoch {epoch} ({images_seen:,} images): {diagnosis.describe()}"
            Tqdm.write(fill(message, WIDTH, subsequent_indent="  ", break_on_hyphens=False))
        if path is not None:
            write_rows(path, self.rows)

    def write_chart(self, trainer: L.Trainer, result: EvaluationResult) -> None:
        """Write the chart, and log it to Weights & Biases."""
        table = table_path(trainer)
        if table is None or result.reference_shares is None or not result.lists_shares:
            return
        path = table.with_suffix(".png")
        with open_atomically(path) as file:
            collapse_chart(self.rows, result.class_names, result.reference_shares).savefig(file, format="png")
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("collapse", [str(path)], step=step_of(trainer))


def table_path(trainer: L.Trainer) -> Path | None:
    """RUN/samples/collapse.csv; None without a run directory."""
    run_dir = run_dir_of(trainer)
    return None if run_dir is None else run_dir / "samples" / "collapse.csv"
