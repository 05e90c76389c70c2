"""A run that stops anywhere and resumes sees the very batches, augmented alike, that an uninterrupted one sees."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from genai.data.augment import Augment
from genai.data.base import Batch
from genai.data.digits import Digits

BATCHES = 8  # of 128 in an epoch of 1,097
Seen = list[tuple[int, int, str]]


class Recorder(LightningModule):
    """Two optimisers and manual steps, as a GAN has; records its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weights = torch.nn.ParameterList([torch.nn.Parameter(torch.zeros(1)) for _ in range(2)])
        self.seen: Seen = []

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.SGD([weight], lr=0.1) for weight in self.weights]

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        self.seen.append((self.current_epoch, batch_idx, fingerprint(batch.images)))
        for optimizer, weight in zip(self.optimizers(), self.weights, strict=True):
            optimizer.zero_grad()
            self.manual_backward(weight.sum())
            optimizer.step()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        assert batch.images.dtype == torch.float32


class Stop(Exception):
    pass


class Interrupt(Callback):
    """Saves a checkpoint in one hook and ends the process's work there."""

    def __init__(self, hook: str, epoch: int, batch: int, path: Path) -> None:
        def save(trainer: Trainer, module: LightningModule, *args: Any) -> None:
            if not trainer.sanity_checking and (trainer.current_epoch, trainer.fit_loop.batch_idx) == (epoch, batch):
                trainer.save_checkpoint(path)
                raise Stop

        setattr(self, hook, save)


def fingerprint(images: Tensor) -> str:
    return str(hash(images.numpy().tobytes()))


def pictures(seen: Seen) -> list[str]:
    return [picture for _, _, picture in seen]


def fit(*callbacks: Callback, checkpoint: Path | None = None, num_workers: int = 0, **options: Any) -> Seen:
    module = Recorder()
    data = Digits(batch_size=128, augment=Augment(rotate=10, translate=0.1), num_workers=num_workers)
    settings = {"max_epochs": 3, "logger": False, "enable_checkpointing": False, "accelerator": "cpu"}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    try:
        Trainer(callbacks=list(callbacks), **settings | quiet | options).fit(module, data, ckpt_path=checkpoint)
    except Stop:
        assert callbacks
    return module.seen


@pytest.fixture(scope="module")
def uninterrupted(cache_folder: Path) -> Seen:
    seen = fit()
    assert len(seen) == len(set(seen)) == 3 * BATCHES
    return seen


LAST = BATCHES - 1


@pytest.mark.parametrize("limit", [{"max_epochs": 3}, {"max_epochs": -1, "max_steps": 2 * 3 * BATCHES}], ids=str)
@pytest.mark.parametrize(
    ("hook", "epoch", "batch"),
    [
        ("on_train_batch_start", 0, 3),
        ("on_train_batch_end", 0, 0),
        ("on_train_batch_end", 0, 3),
        ("on_train_batch_end", 1, 3),
        ("on_train_batch_end", 1, LAST),
        ("on_train_epoch_end", 0, LAST),
        ("on_train_epoch_end", 1, LAST),
        ("on_validation_end", 1, LAST),
    ],
)
def test_resume(uninterrupted: Seen, tmp_path: Path, limit: dict[str, int], hook: str, epoch: int, batch: int) -> None:
    checkpoint = tmp_path / "stopped.ckpt"
    before = fit(Interrupt(hook, epoch, batch, checkpoint), **limit)
    assert len(before) == epoch * BATCHES + batch + (hook != "on_train_batch_start")
    assert before + fit(checkpoint=checkpoint, **limit) == uninterrupted


@pytest.mark.parametrize("batch", [2, LAST])
def test_resume_twice(uninterrupted: Seen, tmp_path: Path, batch: int) -> None:
    # only the pictures: after [LAST] Lightning itself counts the second run's batches from 0
    first, second = tmp_path / "first.ckpt", tmp_path / "second.ckpt"
    seen = fit(Interrupt("on_train_batch_end", 0, batch, first))
    seen += fit(Interrupt("on_train_batch_end", 1, 5, second), checkpoint=first)
    assert pictures(seen + fit(checkpoint=second)) == pictures(uninterrupted)


def test_resume_with_loader_processes(uninterrupted: Seen, tmp_path: Path) -> None:
    checkpoint = tmp_path / "stopped.ckpt"
    before = fit(Interrupt("on_train_batch_end", 1, 3, checkpoint), num_workers=1)
    assert before + fit(checkpoint=checkpoint, num_workers=1) == uninterrupted


def test_resume_in_validation_between_batches(tmp_path: Path) -> None:
    checkpoint, every = tmp_path / "stopped.ckpt", {"val_check_interval": 4}
    whole = fit(**every)
    before = fit(Interrupt("on_validation_end", 1, 3, checkpoint), **every)
    assert before + fit(checkpoint=checkpoint, **every) == whole


def test_another_order_in_mid_epoch_is_said(tmp_path: Path) -> None:
    data = Digits(batch_size=64)
    data.load_state_dict({"epoch": 1, "batches": 3, "seed": 0, "batch_size": 128, "world_size": 1})
    with pytest.warns(UserWarning, match="batch_size 128 -> 64"):
        data.train_dataloader()


def test_a_loaded_state_serves_one_loader() -> None:
    data = Digits()
    data.load_state_dict({"epoch": 0, "batches": 3, "seed": 0, "batch_size": 128, "world_size": 1})
    lengths: list[int] = []
    for _ in range(2):
        loader = data.train_dataloader()
        assert len(loader) == BATCHES
        lengths.append(len(list(loader)))
    assert lengths == [BATCHES - 3, BATCHES]


def test_a_state_loaded_to_validate_does_not_touch_a_later_fit(uninterrupted: Seen, tmp_path: Path) -> None:
    checkpoint = tmp_path / "stopped.ckpt"
    fit(Interrupt("on_train_batch_end", 0, 3, checkpoint))
    data, quiet = Digits(batch_size=128), {"enable_progress_bar": False, "logger": False, "enable_model_summary": False}
    Trainer(accelerator="cpu", **quiet).validate(Recorder(), data, ckpt_path=checkpoint, verbose=False)
    assert len(list(data.train_dataloader())) == BATCHES
