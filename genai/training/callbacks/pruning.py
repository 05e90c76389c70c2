"""Reports the validation scores of a trial to its study, and ends a trial that is worse than the others."""

import math
from typing import Any

import lightning as L

from genai.errors import UserError
from genai.training.callbacks.epochs import is_kth_or_last


class ReportScores(L.Callback):
    """Reports the metric that best.ckpt minimises, at the epochs at which best.ckpt is chosen.

    Where validation goes by steps and not by epochs, as for text, it is reported at each validation.
    A pruned fit ends with its epoch: its checkpoint, scores and cost are written as those of any fit.

    Args:
        trial: has Optuna's `report` and `should_prune`.
        monitor: the metric, such as `val/fid`.
        every_n_epochs: epochs between evaluations.

    Raises:
        UserError: in a fit, where the score is infinite or NaN.
    """

    def __init__(self, trial: Any, monitor: str, every_n_epochs: int) -> None:
        self.trial = trial
        self.monitor = monitor
        self.every_n_epochs = every_n_epochs
        self.best: float | None = None
        self.best_at = 0  # epoch, or number of the validation
        self.num_validations = 0
        self.is_pruned = False

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking or self.monitor not in trainer.callback_metrics:
            return
        self.num_validations += 1
        is_by_epochs = trainer.check_val_every_n_epoch is not None
        now = trainer.current_epoch + 1 if is_by_epochs else self.num_validations
        if is_by_epochs and not is_kth_or_last(trainer, self.every_n_epochs):
            return
        score = float(trainer.callback_metrics[self.monitor])
        if not math.isfinite(score):
            raise UserError(f"{self.monitor} is {score} at {'epoch' if is_by_epochs else 'validation'} {now}")
        self.trial.report(score, now)
        if self.best is None or score < self.best:
            self.best, self.best_at = score, now
        if self.trial.should_prune():
            self.is_pruned = trainer.should_stop = True
