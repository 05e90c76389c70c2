"""Snapshots of power-function averages, for one of any width after training."""

from pathlib import Path

import lightning as L
from safetensors.torch import save_file

from genai.models.ema import PowerAveraged


class Averages(L.Callback):
    """Writes RUN/averages/STD-IMAGES.safetensors after every k-th epoch, of each `PowerAveraged` in the model.

    Args:
        every_n_epochs: k; the last epoch always counts.
    """

    def __init__(self, every_n_epochs: int = 1) -> None:
        self.every_n_epochs = every_n_epochs
        self.run_dir: Path | None = None

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        averages = [module for module in pl_module.modules() if isinstance(module, PowerAveraged)]
        epoch = trainer.current_epoch + 1
        is_due = epoch % self.every_n_epochs == 0 or epoch == trainer.max_epochs
        if not averages or not is_due or not trainer.is_global_zero or self.run_dir is None:
            return
        folder = self.run_dir / "averages"
        folder.mkdir(exist_ok=True)
        for average in averages:
            path = folder / f"{average.std:g}-{pl_module.images_seen}.safetensors"
            state = {name: tensor.contiguous() for name, tensor in average.network.state_dict().items()}
            save_file(state, path.with_suffix(".tmp"))
            path.with_suffix(".tmp").replace(path)
