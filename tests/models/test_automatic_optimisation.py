"""VAE and Classifier have one optimiser: the Trainer's flags work as Lightning documents them."""

import copy
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torchmetrics
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor
from torch.optim import SGD

from genai.data.digits import Digits
from genai.models.base import Model
from genai.models.classifier.classifier import Classifier
from genai.models.schedules import Cosine
from genai.models.vae.vae import VAE
from genai.networks.autoencoder import MLPDecoder, MLPEncoder
from genai.networks.convnet import ConvNet

SHAPE = (1, 8, 8)
BATCH = 64
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "limit_val_batches": 1,
    "num_sanity_val_steps": 0,
}


def vae(**options: Any) -> VAE:
    coders = {"encoder": partial(MLPEncoder, hidden=[16]), "decoder": partial(MLPDecoder, hidden=[16])}
    return VAE(SHAPE, 10, latent_dim=2, **coders, **options)


def classifier(**options: Any) -> Classifier:
    return Classifier(SHAPE, 10, partial(ConvNet, channels=(8,), stem_stride=2, dropout=0.0), **options)


both = pytest.mark.parametrize("build", [vae, classifier])


def fit(model: Model, **options: Any) -> L.Trainer:
    torch.manual_seed(1)
    trainer = L.Trainer(**(QUIET | options))
    trainer.fit(model, datamodule=Digits(batch_size=BATCH))
    return trainer


class Record(L.Callback):
    """The batches, and the learning rate and the weights before each step of the optimiser."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.weights: list[torch.Tensor] = []
        self.batches: list[Any] = []

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        self.batches.append(batch)

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])
        self.weights.append(torch.cat([p.detach().flatten() for p in optimizer.param_groups[0]["params"]]).clone())


@both
def test_max_steps_counts_batches(build: Any) -> None:
    model = build()
    assert fit(model, max_steps=3).global_step == 3
    assert model.images_seen == 3 * BATCH


@both
def test_the_learning_rate_is_that_of_the_images_seen_before_the_batch(build: Any) -> None:
    schedule, record = Cosine(kimg=0.32, end=0.1, warmup_kimg=0.1), Record()
    fit(build(optimizer=partial(SGD, lr=0.02), lr_schedule=schedule), max_steps=5, callbacks=[record])
    assert record.rates == pytest.approx([0.02 * schedule(BATCH * i) for i in range(5)])


@both
def test_accumulated_batches_make_one_step(build: Any) -> None:
    """The averages and the learning rate change with the optimiser's steps; all images count."""
    schedule, record = Cosine(kimg=0.5, end=0.1), Record()
    model = build(optimizer=partial(SGD, lr=0.02), lr_schedule=schedule, ema_halflife_kimg=0.0)
    trainer = fit(model, max_steps=2, accumulate_grad_batches=2, callbacks=[record])
    assert trainer.global_step == 2
    assert model.images_seen == model.images_at_update == 4 * BATCH
    assert record.rates == pytest.approx([0.02 * schedule(0), 0.02 * schedule(2 * BATCH)])
    for averaged, current in zip(model.averaged.network.parameters(), model.network.parameters(), strict=True):
        torch.testing.assert_close(averaged, current)  # a half-life of 0 copies the network


def test_the_gradient_of_accumulated_batches_is_the_mean() -> None:
    """One step on two batches at learning rate 1 moves the weights by the mean of both batches' gradients."""
    torch.manual_seed(0)
    model = classifier(optimizer=partial(SGD, lr=1.0))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum, module.track_running_stats = 0.0, False
    start = copy.deepcopy(model)
    record = Record()
    fit(model, max_steps=1, accumulate_grad_batches=2, callbacks=[record])
    assert len(record.batches) == 2
    gradients = []
    for images, labels in record.batches:
        loss = torch.nn.functional.cross_entropy(start.network(images), labels)
        gradients.append(torch.autograd.grad(loss, list(start.network.parameters())))
    for before, after, one, other in zip(start.network.parameters(), model.network.parameters(), *gradients, strict=True):
        torch.testing.assert_close(before - after, (one + other) / 2, rtol=1e-3, atol=1e-5)


@both
def test_gradient_clip_val_bounds_the_step(build: Any) -> None:
    record = Record()
    fit(build(optimizer=partial(SGD, lr=1.0)), max_steps=4, gradient_clip_val=0.01, callbacks=[record])
    steps = [float((after - before).norm()) for before, after in zip(record.weights, record.weights[1:], strict=False)]
    assert steps == pytest.approx(3 * [0.01], rel=1e-3)


@both
def test_early_stopping_on_the_validation_loss(build: Any) -> None:
    """Nothing improves without learning, so that the second epoch is the last."""
    stop = EarlyStopping("val/loss", patience=1, min_delta=1e9)
    trainer = fit(build(), max_epochs=5, limit_train_batches=1, callbacks=[stop])
    assert trainer.current_epoch == 2


@both
def test_a_fast_dev_run_and_a_learning_rate_monitor(build: Any, tmp_path: Path) -> None:
    fit(build(), fast_dev_run=True)
    logger = L.pytorch.loggers.CSVLogger(tmp_path)
    model = build(lr_schedule=Cosine(kimg=1))
    fit(model, max_steps=2, logger=logger, log_every_n_steps=1, callbacks=[LearningRateMonitor("step")])
    assert "train/lr" in (Path(logger.log_dir) / "metrics.csv").read_text().splitlines()[0]


@pytest.mark.slow
@both
def test_compile_leaves_the_metrics_alone(build: Any) -> None:
    model = build(compile="eager")
    fit(model, max_steps=1)
    assert all(not hasattr(m, "_compiled_call_impl") or m._compiled_call_impl is None for m in metrics_of(model))


def metrics_of(model: Model) -> list[torch.nn.Module]:
    found = [module for module in model.modules() if isinstance(module, torchmetrics.Metric)]
    assert found
    return found
