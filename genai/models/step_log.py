"""What training steps log, handed to Lightning only when a step's values are written: `self.log` in each step is slow."""

from collections.abc import Mapping

import lightning as L
import torch
from torch import Tensor


class StepLog:
    """What the current training step logs.

    `LightningModule.log` costs about a millisecond for each value, and values for the progress bar wait for the GPU in each
    step. Metrics files and trackers get only every `log_every_n_steps`-th of them. `record` keeps a reference, without a
    computation; `write` passes the values to `LightningModule.log`, as numbers on the CPU and as means over all devices. A row
    holds what its own step recorded. Lightning alone would repeat a value until the end of the epoch, and a resumed fit not.
    """

    def __init__(self) -> None:
        self.values: dict[str, Tensor | float] = {}
        self.in_bar: set[str] = set()
        self.written: set[str] = set()

    def record(self, values: Mapping[str, Tensor | float], prog_bar: bool = False) -> None:
        """Keep scalars under their names until the next step.

        Args:
            values: on the model's device; a name that was recorded before is replaced.
            prog_bar: show them in the progress bar too.
        """
        self.values |= {name: value.detach() if isinstance(value, Tensor) else value for name, value in values.items()}
        if prog_bar:
            self.in_bar |= values.keys()

    def write(self, model: L.LightningModule) -> None:
        """Log all values; every device takes part."""
        for metric in (model.trainer._results or {}).values():
            if metric.meta.name in self.written - self.values.keys():
                metric.reset()
        self.written |= self.values.keys()
        tensors = {name: value for name, value in self.values.items() if isinstance(value, Tensor)}
        numbers = {name: torch.tensor(float(value)) for name, value in self.values.items() if not isinstance(value, Tensor)}
        if tensors:
            means = model.trainer.strategy.reduce(torch.stack([value.reshape(()) for value in tensors.values()]).float())
            numbers |= dict(zip(tensors, means.cpu(), strict=True))  # one transfer for all values
        for name in self.values:
            model.log(name, numbers[name], prog_bar=name in self.in_bar)


def is_written(trainer: L.Trainer) -> bool:
    """Whether this step's values go to the loggers, or are the last ones of an epoch or a fit; called at the end of a step."""
    is_last = trainer.is_last_batch or trainer.global_step == trainer.max_steps
    return is_last or trainer._logger_connector.should_update_logs
