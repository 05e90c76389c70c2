"""Which epochs of a fit count: each k-th one and the last."""

import lightning as L


def is_last_epoch(trainer: L.Trainer) -> bool:
    """Whether the fit ends with this epoch: by `max_epochs`, `max_steps`, or because a callback stops it."""
    is_last = trainer.current_epoch + 1 == trainer.max_epochs or trainer.global_step == trainer.max_steps
    return is_last or bool(trainer.should_stop)


def is_kth_or_last(trainer: L.Trainer, every_n_epochs: int) -> bool:
    """Whether this epoch is a k-th one, counted from 1, or the last; never for k = 0."""
    return every_n_epochs > 0 and ((trainer.current_epoch + 1) % every_n_epochs == 0 or is_last_epoch(trainer))
