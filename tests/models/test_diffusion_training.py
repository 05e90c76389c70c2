"""The Trainer's flags with a model of one optimiser: accumulation, clipping, learning rates, resuming, early stopping."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader

from genai.data.digits import Digits
from genai.errors import UserError
from genai.models.conditions import encode_labels
from genai.models.diffusion.diffusion import Diffusion
from genai.models.schedules import Cosine
from genai.networks.unet import UNet
from genai.runs.loading import build_model

SHAPE = (1, 8, 8)
PRESETS = sorted(
    path for path in (Path(__file__).parents[2] / "configs/digits").glob("*.yaml") if "diffusion.Diffusion" in path.read_text()
)
SCHEDULE = Cosine(kimg=0.1, start=1.0, end=0.1)
tiny_unet = partial(UNet, channels=[8], num_blocks=1, embedding_dim=8)
SGD = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.02}}


def tiny(**options: Any) -> Diffusion:
    torch.manual_seed(0)
    return Diffusion(SHAPE, 0, options.pop("network", tiny_unet), **options)


def images(num: int = 32, value: float | None = None) -> list[tuple[Tensor, int]]:
    values = torch.rand(num, *SHAPE, generator=torch.Generator().manual_seed(0))
    return [(image if value is None else torch.full(SHAPE, value), 0) for image in values]


def fit(model: Diffusion, folder: Path, batch_size: int = 8, num: int = 32, ckpt_path: Path | None = None, **options: Any):
    options = {"max_epochs": 1, "logger": False, "enable_checkpointing": False} | options
    trainer = L.Trainer(
        accelerator="cpu", enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder, **options
    )
    trainer.fit(model, DataLoader(images(num), batch_size=batch_size), ckpt_path=ckpt_path, weights_only=True)
    return trainer


class Recorder(L.Callback):
    """The learning rate of each batch, and the arguments of each update of the averages."""

    def __init__(self, model: Diffusion) -> None:
        self.rates: list[float] = []
        self.updates: list[tuple[int, int]] = []
        update = model.averaged.update

        def recorded(network: torch.nn.Module, num_images: int, images_seen: int) -> None:
            self.updates.append((num_images, images_seen))
            update(network, num_images, images_seen)

        model.averaged.update = recorded  # type: ignore[method-assign]

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])


def test_accumulated_batches_make_one_step_and_one_update_of_the_averages(tmp_path: Path) -> None:
    model = tiny(power_stds=[0.1])
    recorder = Recorder(model)
    trainer = fit(model, tmp_path, accumulate_grad_batches=2, callbacks=[recorder])
    assert trainer.global_step == 2
    assert model.images_seen == 32
    assert recorder.updates == [(16, 16), (16, 32)]


def test_accumulated_gradients_are_those_of_the_whole_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With noise that depends on nothing, two batches of 8 make the step of one batch of 16."""
    monkeypatch.setattr(torch, "randn_like", torch.ones_like)
    monkeypatch.setattr(
        "genai.models.diffusion.denoising_model.stratified_uniform", lambda num, device: torch.full((num,), 0.5, device=device)
    )
    whole, parts = tiny(optimizer=SGD), tiny(optimizer=SGD)
    fit(whole, tmp_path, batch_size=16)
    fit(parts, tmp_path, batch_size=8, accumulate_grad_batches=2)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], value, rtol=1e-4, atol=1e-6, msg=name)
    assert not torch.equal(whole.network.last.weight, tiny().network.last.weight)


def test_gradient_clip_val_bounds_the_step(tmp_path: Path) -> None:
    """Plain gradient descent moves by the learning rate times the norm of the gradient."""

    def distance(**options: Any) -> float:
        model = tiny(optimizer=SGD)
        before = [p.detach().clone() for p in model.network.parameters()]
        fit(model, tmp_path, max_steps=1, **options)
        squares = ((p - b).square().sum() for p, b in zip(model.network.parameters(), before, strict=True))
        return math.sqrt(sum(float(square) for square in squares))

    assert distance(gradient_clip_val=0.01) == pytest.approx(0.02 * 0.01, rel=1e-3)
    assert distance() > 0.02 * 0.1
    assert distance(gradient_clip_val=1e6) == pytest.approx(distance())
    by_value = distance(gradient_clip_val=1e-6, gradient_clip_algorithm="value")
    assert 0 < by_value <= 0.02 * 1e-6 * math.sqrt(sum(p.numel() for p in tiny().network.parameters())) * 1.001


@pytest.mark.parametrize("options", [{}, {"gradient_clip_val": 1.0}, {"precision": "bf16-mixed"}])
def test_a_loss_that_is_not_finite_stops_before_a_weight_changes(options: dict[str, Any], tmp_path: Path) -> None:
    model = tiny()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path, **options
    )
    with pytest.raises(UserError, match=r"not finite .* in step 1, .*; last good checkpoint: none yet"):
        trainer.fit(model, DataLoader(images(8, float("nan")), batch_size=4))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_step_has_the_learning_rate_of_the_images_seen_before_it(tmp_path: Path) -> None:
    model = tiny(lr_schedule=SCHEDULE)
    recorder = Recorder(model)
    fit(model, tmp_path, callbacks=[recorder], max_epochs=2)
    assert recorder.rates == [1e-3 * SCHEDULE(images) for images in range(0, 64, 8)]


def test_accumulation_keeps_the_learning_rate_within_a_step(tmp_path: Path) -> None:
    model = tiny(lr_schedule=SCHEDULE)
    recorder = Recorder(model)
    fit(model, tmp_path, callbacks=[recorder], accumulate_grad_batches=2)
    assert recorder.rates == [1e-3 * SCHEDULE(images) for images in (0, 16)]


def test_learning_rates_and_averages_continue_after_a_resume(tmp_path: Path) -> None:
    whole, first, second = (tiny(lr_schedule=SCHEDULE, optimizer=SGD) for _ in range(3))
    recorders = [Recorder(model) for model in (whole, first, second)]
    seeded = [L.pytorch.callbacks.LambdaCallback(on_train_batch_start=seed_of_images) for _ in range(3)]
    fit(whole, tmp_path, callbacks=[recorders[0], seeded[0]], max_epochs=2)
    fit(first, tmp_path, callbacks=[recorders[1], seeded[1]]).save_checkpoint(tmp_path / "half.ckpt")
    fit(second, tmp_path, callbacks=[recorders[2], seeded[2]], max_epochs=2, ckpt_path=tmp_path / "half.ckpt")
    assert recorders[1].rates + recorders[2].rates == recorders[0].rates
    assert recorders[1].updates + recorders[2].updates == recorders[0].updates
    assert second.images_seen == 64
    for name, value in whole.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name


def seed_of_images(trainer: L.Trainer, pl_module: Diffusion, batch: Any, batch_idx: int) -> None:
    torch.manual_seed(pl_module.images_seen)


def test_another_schedule_takes_effect_on_a_resume(tmp_path: Path) -> None:
    fit(tiny(lr_schedule=SCHEDULE), tmp_path).save_checkpoint(tmp_path / "half.ckpt")
    other = Cosine(kimg=1, start=0.5, end=0.2)
    model = tiny(lr_schedule=other)
    recorder = Recorder(model)
    fit(model, tmp_path, callbacks=[recorder], max_epochs=2, ckpt_path=tmp_path / "half.ckpt")
    assert recorder.rates == [1e-3 * other(images) for images in range(32, 64, 8)]


def test_lightning_s_callbacks_see_the_model(tmp_path: Path) -> None:
    """The learning rate is monitored, and a loss that cannot fall enough stops the training."""
    monitor, stopping = LearningRateMonitor(), EarlyStopping("train/loss", min_delta=1e9, patience=1)
    logger = CSVLogger(tmp_path)
    model = tiny(lr_schedule=SCHEDULE)
    trainer = fit(model, tmp_path, max_epochs=5, callbacks=[monitor, stopping], logger=logger, log_every_n_steps=1)
    assert trainer.current_epoch < 5
    assert model.images_seen == 64
    rows = [float(line) for line in monitor.lrs["train/lr"]]
    assert rows == [1e-3 * SCHEDULE(images) for images in range(0, 64, 8)]


@pytest.mark.parametrize("options", [{"fast_dev_run": True}, {"overfit_batches": 1}, {"max_steps": 3}])
def test_trainer_flags(options: dict[str, Any], tmp_path: Path) -> None:
    model = tiny()
    trainer = fit(model, tmp_path, **options)
    expected = 3 if "max_steps" in options else 1
    assert trainer.global_step == expected
    assert model.images_seen == 8 * expected


def test_a_fit_of_digits_in_python(tmp_path: Path) -> None:
    model = Diffusion(SHAPE, 10, tiny_unet, conditional=True)
    trainer = L.Trainer(
        max_epochs=1,
        limit_train_batches=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(model, datamodule=Digits(batch_size=16))
    assert model.images_seen == 48
    assert {"train/loss", "val/loss"} <= trainer.logged_metrics.keys()
    (metrics,) = trainer.test(model, datamodule=Digits(batch_size=64), verbose=False)
    assert metrics["test/loss"] > 0


@pytest.mark.parametrize("config", PRESETS, ids=lambda path: path.stem)
def test_every_parameter_of_a_preset_gets_a_gradient(config: Path) -> None:
    """DistributedDataParallel refuses parameters without one."""
    content = yaml.safe_load(config.read_text())
    model = build_model(content, {"image_shape": list(SHAPE), "num_classes": 10})
    assert isinstance(model, Diffusion)
    x = torch.rand(4, *SHAPE)
    condition = encode_labels(torch.arange(4), 10) if model.conditional else None
    conditioning_image = None if model.conditioning_image is None else model.conditioning_image(x)
    model.network(x, torch.rand(4), condition, conditioning_image).sum().backward()
    assert [name for name, parameter in model.network.named_parameters() if parameter.grad is None] == []
    assert content["trainer"]["gradient_clip_val"] == 1.0
