"""Stopping by a signal: Ctrl-C, SIGTERM and SIGUSR1 end a fit at its next safe point, where it can be resumed exactly.

Lightning's own handlers are replaced. Its SIGUSR1 handler saves in the middle of a computation. Its SIGTERM handler has no
effect during validation, and with several processes it broadcasts inside of the handler, which only the processes that got the
signal join. After Ctrl-C it writes no checkpoint.
"""

import multiprocessing
import signal
import sys
import threading
from functools import partial
from types import FrameType
from typing import Any

import lightning as L
import torch
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from genai.models.base import Model
from genai.models.step_log import is_written

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
AGREE_EVERY = 10  # batches after which several processes compare the signals they got
LOOK_EVERY = 1.0  # seconds after a signal: whether the fit waits for a loader process
WAIT_FOR_BATCH = _MultiProcessingDataLoaderIter._try_get_data.__code__  # for a loader process, perhaps without end


class Stopped(Exception):
    """A signal stopped the fit, and last.ckpt has been written."""

    def __init__(self, number: int) -> None:
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        super().__init__(f"stopped by {name}")
        self.number = number


class Preemption(L.Callback):
    """Raises `Stopped` after a training batch, a validation batch or a batch of samples, in all processes alike.

    After a training batch that validation follows, it waits until the validation has begun, so that the checkpoint says that
    the validation is due. A single process that waits for a batch of a loader process stops there: it is between two
    batches, and the next one may never come.
    """

    def __init__(self) -> None:
        self.received = 0

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.listen(trainer)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.listen(trainer)

    def listen(self, trainer: L.Trainer) -> None:
        """Install our handlers; Lightning restores the earlier ones when the fit ends."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, partial(self.receive, trainer))

    def receive(self, trainer: L.Trainer, number: int, frame: FrameType | None) -> None:
        """Keep the signal for the next safe point. A second Ctrl-C stops at once."""
        self.received = number
        if number == signal.SIGINT:
            print("\nstopping at the next safe point; Ctrl-C again stops now, without a checkpoint", file=sys.stderr)
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if trainer.world_size == 1:
            signal.signal(signal.SIGALRM, partial(self.look, trainer))
            signal.setitimer(signal.ITIMER_REAL, LOOK_EVERY, LOOK_EVERY)

    def look(self, trainer: L.Trainer, number: int, frame: FrameType | None) -> None:
        """Raise Stopped if the fit waits for a loader process; else the next safe point does, or this function later."""
        if waits_between_batches(trainer, frame):
            raise Stopped(self.received)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        if isinstance(exception, Stopped):
            kill_loader_processes()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if is_due(trainer, batch_idx) and not is_accumulating(trainer) and not validation_may_follow(trainer, batch_idx):
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


def waits_between_batches(trainer: L.Trainer, frame: FrameType | None) -> bool:
    """Whether the fit waits for a loader process, with no training batch begun."""
    while frame is not None and frame.f_code is not WAIT_FOR_BATCH:
        frame = frame.f_back
    progress = trainer.fit_loop.epoch_loop.batch_progress.current
    return frame is not None and (trainer.validating or progress.ready == progress.completed)


def kill_loader_processes() -> None:
    """End the loader processes, which Lightning would wait for: 5 s and, where one hangs, much longer, for each of them."""
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's would raise
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()
            process.join()
    signal.signal(signal.SIGCHLD, handler)


def log_batch(trainer: L.Trainer) -> None:
    """Log the metrics of the batch that has just ended, which the model and Lightning do after the hooks of callbacks."""
    model = trainer.lightning_module
    if isinstance(model, Model) and is_written(trainer):
        model.step_log.write(model)
    trainer._logger_connector.update_train_step_metrics()


def is_due(trainer: L.Trainer, batch_idx: int) -> bool:
    """Whether the processes compare their signals after this batch; a single process always looks."""
    return trainer.world_size == 1 or batch_idx // trainer.accumulate_grad_batches % AGREE_EVERY == 0


def is_accumulating(trainer: L.Trainer) -> bool:
    """Whether the gradients of the last training batch wait for those of the next ones."""
    return trainer.fit_loop.epoch_loop._should_accumulate()


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
