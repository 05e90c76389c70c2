"""Stopping by a signal: Ctrl-C, SIGTERM and SIGUSR1 end a fit at its next safe point, where it can be resumed exactly.

Lightning's own handlers are replaced. Its SIGUSR1 handler saves in the middle of a computation. Its SIGTERM handler has no
effect during validation, and with several processes it broadcasts inside of the handler, which only the processes that got the
signal join. After Ctrl-C it writes no checkpoint.
"""

import signal
import sys
import threading
from typing import Any

import lightning as L
import torch

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
AGREE_EVERY = 10  # batches after which several processes compare the signals they got


class Stopped(Exception):
    """A signal stopped the fit, and last.ckpt has been written."""

    def __init__(self, number: int) -> None:
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        super().__init__(f"stopped by {name}")
        self.number = number


class Preemption(L.Callback):
    """Raises `Stopped` after a training batch, a validation batch or a batch of samples, in all processes alike.

    After a training batch that validation follows, it waits until the validation has begun, so that the checkpoint says that
    the validation is due.
    """

    def __init__(self) -> None:
        self.received = 0

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.listen()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.listen()

    def listen(self) -> None:
        """Install our handlers; Lightning restores the earlier ones when the fit ends."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self.receive)

    def receive(self, number: int, frame: Any) -> None:
        """Keep the signal for the next safe point. A second Ctrl-C stops at once."""
        self.received = number
        if number == signal.SIGINT:
            print("\nstopping at the next safe point; Ctrl-C again stops now, without a checkpoint", file=sys.stderr)
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if is_due(trainer, batch_idx) and not validation_may_follow(trainer, batch_idx):
            self.check(trainer, after_batch=True)

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if is_due(trainer, batch_idx):
            self.check(trainer)

    def check(self, trainer: L.Trainer, after_batch: bool = False) -> None:
        """Raise Stopped, in all processes with the same signal, when any process got one; all have to call it.

        Args:
            trainer: of the fit.
            after_batch: a training batch has ended. Lightning would log its metrics after this hook, so they are logged first.
        """
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        received = torch.tensor(self.received, device=trainer.strategy.root_device)
        number = int(trainer.strategy.reduce(received, reduce_op="max"))
        if number:
            if after_batch:
                log_batch(trainer)
            raise Stopped(number)


def log_batch(trainer: L.Trainer) -> None:
    """Log the metrics of the training batch that has just ended, which Lightning does after its hooks."""
    trainer._logger_connector.update_train_step_metrics()


def is_due(trainer: L.Trainer, batch_idx: int) -> bool:
    """Whether the processes compare their signals after this batch; a single process always looks."""
    return trainer.world_size == 1 or batch_idx % AGREE_EVERY == 0


def validation_may_follow(trainer: L.Trainer, batch_idx: int) -> bool:
    """Whether the trainer may validate after this training batch."""
    interval = trainer.val_check_batch
    return trainer.fit_loop.epoch_loop.batch_progress.is_last_batch or bool(interval and (batch_idx + 1) % interval == 0)


def stop_if_signalled(trainer: L.Trainer) -> None:
    """For a callback that samples for long: raise Stopped when any process got a signal; all have to call it."""
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    for callback in callbacks:
        if isinstance(callback, Preemption):
            callback.check(trainer)
