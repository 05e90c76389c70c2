"""A grid of samples of fixed seeds after each epoch: how a model learns, in pictures."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import WandbLogger
from torch import Tensor

from genai.data.words import labels_in_words
from genai.errors import UserError
from genai.images import grid, save_png, to_uint8
from genai.models.base import ImageModel
from genai.models.seeds import image_seeds
from genai.runs import Run
from genai.training.callbacks.epochs import is_kth_or_last, is_last_epoch
from genai.training.callbacks.evaluation import step_of
from genai.training.callbacks.run_directory import run_dir_of


class Gallery(L.Callback):
    """Writes a grid of samples to RUN/samples, and to Weights & Biases, at the end of every k-th epoch.

    Weights & Biases gets the images of the last grid in a table too, each with its class, attributes or words as caption.
    It does nothing if the Trainer has no `RunDirectory`.

    Args:
        num: images in the grid. A class-conditional model is conditioned on its classes in turn, other conditional models on
            the attributes or captions of real images.
        seed: of the images.
        every_n_epochs: k; 0 writes no grid. The first and the last epoch always have one.

    Raises:
        UserError: `num` is less than 1 or `every_n_epochs` less than 0.
    """

    def __init__(self, num: int = 64, seed: int = 0, every_n_epochs: int = 1) -> None:
        for option, value, least in (("num", num, 1), ("every_n_epochs", every_n_epochs, 0)):
            if value < least:
                raise UserError(f"gallery.{option} {value} is out of range: use {least} or more")
        self.num = num
        self.seed = seed
        self.every_n_epochs = every_n_epochs

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        epoch, run_dir = trainer.current_epoch + 1, run_dir_of(trainer)
        if not isinstance(pl_module, ImageModel) or not self.is_due(
            epoch, epoch if is_kth_or_last(trainer, self.every_n_epochs) else trainer.max_epochs
        ):
            return
        if not trainer.is_global_zero or run_dir is None:
            return
        condition = gallery_condition(pl_module, getattr(trainer, "datamodule", None), self.num)
        images = pl_module.sample(image_seeds(self.seed, self.num), condition)
        path = run_dir / "samples" / f"epoch-{epoch:04d}.png"
        metadata = {"Run": Run(run_dir).name, "Epoch": str(epoch), "Seed": str(self.seed)}
        save_png(grid(to_uint8(images)), path, metadata | {"Model": type(pl_module).__name__})
        tracked = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
        for logger in tracked:
            text = f"epoch {epoch}, {int(pl_module.images_seen):,} images, seed {self.seed}"
            logger.log_image("samples", [str(path)], step=step_of(trainer), caption=[text])
        if is_last_epoch(trainer):
            names = [str(name) for name in getattr(getattr(trainer, "datamodule", None), "class_names", ())]
            captions = [""] * self.num if condition is None else labels_in_words(condition, names)
            for logger in tracked:
                rows = [
                    [logger_image(image), caption, i] for i, (image, caption) in enumerate(zip(images, captions, strict=True))
                ]
                logger.log_table("samples_table", ["image", "caption", "index"], rows, step=step_of(trainer))

    def is_due(self, epoch: int, max_epochs: int | None) -> bool:
        """Whether the epoch, counted from 1, has a grid."""
        return self.every_n_epochs > 0 and (epoch % self.every_n_epochs == 0 or epoch in (1, max_epochs))


def gallery_condition(model: ImageModel, data: Any, num: int) -> Tensor | None:
    """The condition of `num` images of a gallery, from the data module; None for an unconditional model.

    Classes 0, 1, 2, ... in turn, (num,) int64; or the labels of the first images of the validation split, cycled if there are
    fewer: attributes (num, K) float32 or captions (num, L) int64.
    """
    if not model.conditional:
        return None
    if getattr(data, "label_kind", "class") not in ("attributes", "text"):
        return torch.arange(num) % model.num_classes
    labels = torch.as_tensor(data.split("val").labels[:num])
    return labels[torch.arange(num) % len(labels)]


def logger_image(image: Tensor) -> Any:
    """An image (C, H, W) in [-1, 1] for a table of Weights & Biases."""
    import wandb

    pixels = to_uint8(image[None])[0].permute(1, 2, 0).cpu().numpy()  # (H, W, C)
    return wandb.Image(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)
