"""Averaged weights during a fit: snapshots of power-function averages, and a warning if no average was updated."""

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_warn
from safetensors.torch import save
from torch import Tensor

from genai.errors import check_at_least
from genai.files import write_atomically
from genai.models.ema import Averaged, PowerAveraged
from genai.training.callbacks.epochs import is_kth_or_last
from genai.training.callbacks.run_directory import run_dir_of


class Averages(L.Callback):
    """Writes RUN/averages/STD-IMAGES.safetensors after every k-th epoch, for each `PowerAveraged` in the model.

    From such snapshots `genai average` makes an average of any length.

    Args:
        every_n_epochs: k; the last epoch always has a snapshot; 0: never.

    Raises:
        UserError: k is below 0.
    """

    def __init__(self, every_n_epochs: int = 1) -> None:
        check_at_least("averages.every_n_epochs", every_n_epochs, 0)
        self.every_n_epochs = every_n_epochs

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        averages = [module for module in pl_module.modules() if isinstance(module, PowerAveraged)]
        is_due = is_kth_or_last(trainer, self.every_n_epochs)
        run_dir = run_dir_of(trainer)
        if not averages or not is_due or not trainer.is_global_zero or run_dir is None:
            return
        folder = run_dir / "averages"
        for average in averages:
            state = {name: tensor.contiguous().clone() for name, tensor in average.network.state_dict().items()}
            write_atomically(folder / f"{average.std:g}-{pl_module.images_seen}.safetensors", save(state))


class WarnIfAveragesUnchanged(L.Callback):
    """Warns after a fit that has changed no averaged weights: samples then come from the weights before the fit.

    It compares the sums of their parameters before and after.
    """

    def __init__(self) -> None:
        self.before: list[Tensor] = []
        self.images = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.before, self.images = sums(pl_module), images_seen(pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        images = images_seen(pl_module) - self.images
        pairs = list(zip(self.before, sums(pl_module), strict=True))
        if images and pairs and all(torch.equal(before, after) for before, after in pairs):
            rank_zero_warn(
                f"the averaged weights did not change in this fit of {images:,} images: "
                "samples are those of the weights before it"
            )


def sums(module: L.LightningModule) -> list[Tensor]:
    """The sum of each parameter of each average in a model."""
    averages = [part for part in module.modules() if isinstance(part, Averaged | PowerAveraged)]
    return [parameter.detach().double().sum() for average in averages for parameter in average.network.parameters()]


def images_seen(module: L.LightningModule) -> int:
    """The images that a model has seen; 0 for a module of another kind."""
    return int(getattr(module, "images_seen", 0))
