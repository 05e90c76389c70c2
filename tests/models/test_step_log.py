from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import Logger
from torch import Tensor, nn

from genai.data.digits import Digits
from genai.models.base import Shape, VisionModel
from genai.models.ema import Averaged


class Rows(Logger):
    """Keeps what is logged."""

    name = version = "rows"

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.rows.append(dict(metrics))

    def log_hyperparams(self, *args: Any, **options: Any) -> None:
        pass


class LogsTwice(VisionModel):
    """Records its loss, and logs it in each step too."""

    def __init__(self, image_shape: Shape, num_classes: int) -> None:
        super().__init__(image_shape, num_classes)
        self.network = nn.Conv2d(1, 1, 1)
        self.averaged = Averaged(self.network, halflife_kimg=0)
        self.num_logged = 0

    def trained_network(self) -> nn.Module:
        return self.network

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = (self.network(batch[0]) - batch[0]).square().mean()
        self.step_log.record({"train/loss": loss, "train/batch": batch_idx}, prog_bar=True)
        if batch_idx % 2 == 0:
            self.step_log.record({"train/even": batch_idx})
        self.log("each/loss", loss)
        self.log("each/batch", float(batch_idx))
        self.count_images(len(batch[0]))
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.network.parameters(), 0.1)

    def log(self, name: str, *args: Any, **options: Any) -> None:
        self.num_logged += name == "train/loss"
        super().log(name, *args, **options)


@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 2}, {"max_steps": 7}])
def test_recorded_values_are_those_that_lightning_would_write_in_each_step(options: dict[str, Any]) -> None:
    logger, model = Rows(), LogsTwice((1, 8, 8), 10)
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(accelerator="cpu", max_epochs=2, log_every_n_steps=3, logger=logger, **(quiet | options))
    trainer.fit(model, datamodule=Digits(batch_size=128))
    rows = [row for row in logger.rows if "each/loss" in row]
    assert len(rows) > 1
    for name in ("loss", "batch"):
        assert [row[f"train/{name}"] for row in rows] == [row[f"each/{name}"] for row in rows]
    assert [row.get("train/even") for row in rows] == [None if row["each/batch"] % 2 else row["each/batch"] for row in rows]
    for name in ("train/loss", "train/batch"):
        each = trainer.callback_metrics[name.replace("train", "each")]
        assert torch.equal(trainer.callback_metrics[name], each)  # also after the last step
        assert name in trainer.progress_bar_metrics
    assert model.num_logged < trainer.fit_loop.epoch_loop.total_batch_idx
