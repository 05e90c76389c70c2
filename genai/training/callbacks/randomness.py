"""Training randomness as a function of the images seen, so that a run resumes exactly."""

from typing import Any

import lightning as L
import numpy as np
import torch


class SeedEachBatch(L.Callback):
    """Seeds torch's generators before each training batch from (seed, images seen, rank).

    Noise and dropout then need no saved state: a run resumed in the middle of an epoch gets the random numbers of the
    uninterrupted one, and each rank gets its own.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        key = (self.seed, int(getattr(pl_module, "images_seen", 0)), trainer.global_rank)
        seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
        torch.default_generator.manual_seed(seed)  # torch.manual_seed formats the stack for each backend that is not in use
        if pl_module.device.type != "cpu":
            torch.get_device_module(pl_module.device).manual_seed(seed)
