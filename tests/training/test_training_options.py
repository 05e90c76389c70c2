"""Microbatches, compiling and bfloat16 change what a fit costs, not what it learns."""

import csv
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from genai import runs
from genai.cli import main
from genai.data.digits import Digits
from genai.errors import UserError
from genai.models.gan.gan import GAN
from genai.models.gan.objectives import Relativistic
from genai.models.optimization import ImagesSeenLR, build_optimizer, split_batch
from genai.networks.mlp import MLPDiscriminator, MLPGenerator
from genai.training.callbacks.announcement import describe_step, images_per_batch
from genai.training.callbacks.options import OptimizerOptions
from tests.families import FAMILIES, family

NUM_STEPS = 20
STEPS = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", str(NUM_STEPS), "--trainer.limit_val_batches", "0"]
STEPS += ["--data.init_args.batch_size", "16", "--data.init_args.augment", "null"]
MICROBATCHES = ["--model.init_args.num_microbatches", "2"]
COMPILED = ["--model.init_args.compile", "aot_eager"]


def fit(name: str, folder: Path, *options: str) -> tuple[dict[str, Tensor], dict[str, np.ndarray]]:
    """Weights after a few steps of the family, and its losses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENAI_RUNS", str(folder / "runs"))
        assert main(["fit", *family(name), *STEPS, *options]) == 0
        run = runs.find(f"digits-{name}")
    with (run.path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    losses = {key: np.array([float(row[key]) for row in rows if row[key]]) for key in rows[0] if "loss" in key}
    return torch.load(run.checkpoint("last"), weights_only=True)["state_dict"], losses


def long_but(names: str, name: str) -> list[pytest.MarkDecorator]:
    """The mark of a family that is not one of `names`."""
    return [] if name in names.split() else [pytest.mark.long]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[dict[str, Tensor], dict[str, np.ndarray]]]:
    """A family in float32."""
    return cache(lambda name: fit(name, tmp_path_factory.mktemp(name)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gan", MICROBATCHES),
        pytest.param("gan", COMPILED, marks=pytest.mark.long),
        *(pytest.param(name, COMPILED, marks=long_but("diffusion", name)) for name in FAMILIES if name != "gan"),
    ],
)
def test_the_steps_are_the_same(name: str, options: list[str], plain: Callable, tmp_path: Path) -> None:
    weights, losses = fit(name, tmp_path, *options)
    assert list(weights) == list(plain(name)[0])
    for key, expected in plain(name)[1].items():
        assert len(expected) == NUM_STEPS
        np.testing.assert_allclose(losses[key], expected, rtol=1e-3)
    for key, value in plain(name)[0].items():
        torch.testing.assert_close(weights[key], value, rtol=1e-3, atol=1e-4, msg=key)


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=long_but("gan diffusion", name)) for name in FAMILIES])
def test_bfloat16_learns_the_same(name: str, plain: Callable, tmp_path: Path) -> None:
    weights, losses = fit(name, tmp_path, "--trainer.precision", "bf16-mixed")
    assert {value.dtype for value in weights.values() if value.is_floating_point()} == {torch.float32}
    for key, expected in plain(name)[1].items():
        assert np.abs(losses[key] - expected).max() > 0  # it did compute in bfloat16
        np.testing.assert_allclose(losses[key][-10:].mean(), expected[-10:].mean(), rtol=0.03)


def test_microbatches_are_the_batch() -> None:
    images, labels = torch.arange(7.0), torch.arange(7)
    parts = split_batch(3, images, None, labels)
    assert [len(part[0]) for part in parts] == [3, 2, 2]
    assert [part[1] for part in parts] == [None] * 3
    assert torch.equal(torch.cat([part[2] for part in parts]), labels)
    assert len(split_batch(9, images)) == 7
    with pytest.raises(UserError, match="1 or more"):
        sgd_gan(num_microbatches=0)


def test_the_announcement_counts_what_a_step_sees() -> None:
    assert describe_step(2, 64) == "2 devices x 64 images = 128 images per step"
    assert describe_step(1, 64, batches=3) == "1 device x 64 images x 3 accumulated batches = 192 images per step"
    assert describe_step(1, 64, microbatches=2) == "1 device x 64 images = 64 images per step (each batch in 2 parts)"
    few = DataLoader(TensorDataset(torch.zeros(10)), batch_size=64)
    assert images_per_batch(few) == 10
    assert images_per_batch(DataLoader(TensorDataset(torch.zeros(99)), batch_size=64)) == 64
    assert images_per_batch(None) is None


# ---------------------------------------------------------------------------------------------------------------------
# Clipping, in a GAN with plain gradient descent: a step is as long as the gradient


def sgd_gan(**options: object) -> GAN:
    sgd = {"class_path": "torch.optim.SGD", "init_args": {"lr": 1.0}}
    networks = {"generator": lambda *shape: MLPGenerator(*shape, hidden=[16])}
    networks |= {"discriminator": lambda *shape: MLPDiscriminator(*shape, hidden=[16], dropout=0)}
    return GAN((1, 8, 8), 10, **networks, generator_optimizer=sgd, discriminator_optimizer=sgd, **options)


def moves(model: GAN, **options: object) -> dict[str, float]:
    """How far each network moves in one step."""
    before = {name: value.clone() for name, value in model.named_parameters()}
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    L.seed_everything(0, verbose=False)
    trainer = L.Trainer(accelerator="cpu", max_epochs=1, limit_train_batches=1, limit_val_batches=0, **quiet, **options)
    trainer.fit(model, Digits(batch_size=32))
    changes = {name: (value.detach() - before[name]).square().sum() for name, value in model.named_parameters()}
    networks = ("generator", "discriminator")
    return {net: math.sqrt(sum(float(c) for name, c in changes.items() if name.startswith(net))) for net in networks}


@pytest.mark.parametrize("num_microbatches", [1, 2])
def test_clipping_bounds_the_gradient_of_both_networks(num_microbatches: int) -> None:
    free = moves(sgd_gan())
    assert all(length > 0.01 for length in free.values())
    clipped = moves(sgd_gan(max_grad_norm=0.01, num_microbatches=num_microbatches))
    assert clipped == {name: pytest.approx(0.01, rel=1e-2) for name in free}
    loose = moves(sgd_gan(max_grad_norm=1e6, num_microbatches=num_microbatches))
    assert loose["discriminator"] == pytest.approx(free["discriminator"], rel=0.5)


def test_clipping_sees_the_true_gradient_under_a_scaler() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    plugin = MixedPrecision("16-mixed", "cpu", scaler)
    assert moves(sgd_gan(max_grad_norm=0.01), plugins=[plugin]) == pytest.approx(
        {"generator": 0.01, "discriminator": 0.01}, rel=0.02
    )


def test_no_network_sees_more_than_a_microbatch() -> None:
    model, seen = sgd_gan(num_microbatches=4), []
    for network in (model.generator, model.discriminator):
        network.register_forward_pre_hook(lambda module, arguments: seen.append(len(arguments[0])))
    moves(model)
    assert set(seen) == {8}


def test_a_penalised_discriminator_is_not_compiled() -> None:
    model = sgd_gan(objective=Relativistic(), compile="aot_eager")
    moves(model)
    assert model.generator._compiled_call_impl is not None
    assert model.discriminator._compiled_call_impl is None


def test_a_learning_rate_changed_on_resuming_follows_the_schedule_from_the_first_step() -> None:
    model, network = SimpleNamespace(images_seen=0), torch.nn.Linear(1, 1)

    def start(lr: float) -> Any:
        optimizer = build_optimizer(lambda parameters: torch.optim.SGD(parameters, lr), network)
        scheduler = ImagesSeenLR(optimizer, lambda: 0.1 if model.images_seen else 1.0)
        return SimpleNamespace(optimizers=[optimizer], lr_scheduler_configs=[SimpleNamespace(scheduler=scheduler)])

    first, before = start(1.0), OptimizerOptions()
    before.on_fit_start(first, L.LightningModule())
    model.images_seen = 1000
    first.optimizers[0].param_groups[0]["lr"] = 0.1  # by the schedule
    model.images_seen = 0  # the Trainer builds the optimisers before it restores the model
    resumed, after = start(2.0), OptimizerOptions()
    after.load_state_dict(before.state_dict())
    after.on_fit_start(resumed, L.LightningModule())
    model.images_seen = 1000
    resumed.optimizers[0].load_state_dict(first.optimizers[0].state_dict())
    resumed.lr_scheduler_configs[0].scheduler.load_state_dict({})
    after.on_train_start(resumed, L.LightningModule())
    assert resumed.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.2)
