"""The cost of a fit: counted operations, energy, and metrics.json of a run that was continued."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from torch import nn

from genai.cli import main
from genai.data.digits import Digits
from genai.models.gan.gan import GAN
from genai.networks.mlp import MLPDiscriminator, MLPGenerator
from genai.report.comparison import cost_texts, mean_cost
from genai.training.callbacks import energy
from genai.training.callbacks.cost import Cost, is_countable, sample_flops
from genai.training.callbacks.energy import Energy, make_tracker, source
from genai.training.callbacks.run_directory import RunDirectory

BATCH, LATENT, HIDDEN, PIXELS = 64, 10, 16, 64
FORWARD_G = 2 * BATCH * (LATENT * HIDDEN + HIDDEN * PIXELS)
FORWARD_D = 2 * BATCH * (PIXELS * HIDDEN + HIDDEN)


def generator(shape, num_classes):
    return MLPGenerator(shape, num_classes, latent_dim=LATENT, hidden=[HIDDEN])


def discriminator(shape, num_classes):
    return MLPDiscriminator(shape, num_classes, hidden=[HIDDEN])


def train(callbacks: list[L.Callback], **options: Any) -> GAN:
    """A GAN after ten batches of digits."""
    L.seed_everything(0)
    model = GAN(image_shape=(1, 8, 8), num_classes=0, generator=generator, discriminator=discriminator, **options)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = L.Trainer(
        max_epochs=1, limit_train_batches=10, limit_val_batches=0, callbacks=callbacks, accelerator="cpu", **quiet
    )
    trainer.fit(model, datamodule=Digits(batch_size=BATCH))
    return model


def cost_of_fit(folder: Path, **options: Any) -> dict[str, Any]:
    train([RunDirectory(folder), Cost(count_flops=True)], **options)
    return json.loads((folder / "metrics.json").read_text())["cost"]


def test_operations_of_the_steps_of_a_gan(tmp_path: Path) -> None:
    """Backward costs twice the forward pass, without the gradient of the first layer's input where nobody needs it."""
    cost = cost_of_fit(tmp_path)
    first_layer = 2 * BATCH * PIXELS * HIDDEN
    assert cost["step_flops"] == {
        "discriminator": FORWARD_G + 2 * (3 * FORWARD_D - first_layer),  # real and generated images
        "generator": FORWARD_D + FORWARD_D + 2 * FORWARD_G - 2 * BATCH * LATENT * HIDDEN,
    }
    assert cost["train_flops"] == 10 * sum(cost["step_flops"].values())


def test_steps_of_different_frequency_are_counted_apart(tmp_path: Path) -> None:
    steps = cost_of_fit(tmp_path / "each")["step_flops"]
    cost = cost_of_fit(tmp_path / "fifth", num_discriminator_steps=5)
    assert cost["step_flops"] == steps
    assert cost["train_flops"] == 10 * steps["discriminator"] + 2 * steps["generator"]


def test_measuring_changes_no_weight(tmp_path: Path) -> None:
    plain, measured = train([]), train([RunDirectory(tmp_path), Cost(count_flops=True)])
    for name, weight in plain.state_dict().items():
        assert torch.equal(weight, measured.state_dict()[name]), name


def test_what_cannot_be_counted_is_left_out() -> None:
    """Counting would run compiled networks uncompiled, and torch has no formula for an LSTM."""
    plain = nn.Sequential(nn.Linear(2, 2))
    assert is_countable(plain)
    assert not is_countable(nn.Sequential(nn.LSTM(2, 2)))
    plain[0].compile(backend="eager")
    assert not is_countable(plain)


def test_energy_says_what_was_estimated() -> None:
    class CPU:
        _mode, _tdp = "cpu_load", 90.0

    class GPU:
        """Its energy is read from NVML."""

    rapl = CPU()
    rapl._mode = "intel_rapl"
    assert source(SimpleNamespace(_hardware=[rapl, GPU()])) == "measured"
    assert source(SimpleNamespace(_hardware=[CPU(), GPU()])) == "estimated (processor of 90 W by its load)"


@pytest.mark.parametrize(("local_rank", "expected"), [(0, 3.0), (1, None)])
def test_the_first_process_of_each_node_measures_the_energy(
    local_rank: int, expected: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = SimpleNamespace(start=lambda: started.append(local_rank), stop=lambda: None, _hardware=[])
    tracker.final_emissions_data = SimpleNamespace(energy_consumed=1.5)
    started: list[int] = []
    modes: list[str] = []
    monkeypatch.setattr(energy, "make_tracker", lambda mode: modes.append(mode) or tracker)
    both = SimpleNamespace(root_device=torch.device("cpu"), reduce=lambda own, reduce_op: own + 1.5)  # of two nodes
    trainer: Any = SimpleNamespace(local_rank=local_rank, is_global_zero=local_rank == 0, strategy=both)
    trainer.callbacks = [RunDirectory(tmp_path)]
    callback = Energy(several=True)
    callback.on_fit_start(trainer, L.LightningModule())
    callback.on_train_end(trainer, L.LightningModule())
    assert modes == ["machine"]
    assert started == ([0] if local_rank == 0 else [])
    path = tmp_path / "metrics.json"
    assert (json.loads(path.read_text())["cost"]["energy_kwh"] if path.is_file() else None) == expected


@pytest.mark.slow
def test_energy_is_recorded_without_a_network(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = ["--trainer.limit_train_batches", "2", "--evaluation.every_n_epochs", "0", "--gallery.every_n_epochs", "0"]
    quick += ["--trainer.enable_progress_bar", "false", "--tracker", "none"]
    assert main(["fit", "-c", "digits/gan", "--trainer.max_epochs", "1", "--energy", "true", *quick]) == 0
    cost = json.loads(next(Path("runs/digits-gan").glob("*/metrics.json")).read_text())["cost"]
    assert cost["energy_kwh"] > 0
    assert cost["energy_source"].split()[0] in ("measured", "estimated")
    assert not list(workspace.glob("*.csv"))
    assert "codecarbon" not in "".join(capsys.readouterr())


def test_the_tracker_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODECARBON_SAVE_TO_API", "true")
    tracker = make_tracker()
    assert not tracker._save_to_api
    assert not tracker._save_to_file


def test_costs_of_seeds_are_averaged() -> None:
    runs = [{"seconds": 60.0 * n, "step_flops": {"generator": 1e9 * n}, "energy_source": "measured"} for n in (1, 3)]
    assert cost_texts(mean_cost(runs)) == {"training, min": "2.0", "generator step, GFLOP": "2", "energy": "measured"}
    assert cost_texts(mean_cost([{}])) == {}


def test_the_operations_of_an_mlp_are_two_for_each_weight() -> None:
    def generator(shape, num_classes):
        return MLPGenerator(shape, num_classes, latent_dim=10, hidden=[16, 32])

    model = GAN(image_shape=(1, 8, 8), num_classes=0, generator=generator, discriminator=MLPDiscriminator)
    assert sample_flops(model, None) == 2 * (10 * 16 + 16 * 32 + 32 * 64)


@pytest.mark.slow
def test_a_fit_adds_its_cost_to_that_of_the_fits_before_it(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = ["--trainer.limit_train_batches", "2", "--evaluation.every_n_epochs", "0", "--gallery.every_n_epochs", "0"]
    quick += ["--trainer.enable_progress_bar", "false", "--tracker", "none"]
    assert main(["fit", "-c", "digits/cgan", "--trainer.max_epochs", "1", *quick]) == 0
    path = next(Path("runs/digits-cgan").glob("*/metrics.json"))
    first = json.loads(path.read_text())["cost"]
    assert first["seconds"] >= 0
    assert first["peak_memory"] > 2**20
    assert first["sample_flops"] > 0
    path.write_text(json.dumps({"cost": first | {"seconds": 1000.0}}))
    assert main(["fit", "--resume", "digits-cgan", "--trainer.max_epochs", "2"]) == 0
    assert json.loads(path.read_text())["cost"]["seconds"] >= 1000
    assert main(["runs", "digits-cgan"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("digits-cgan/"))
    assert any(float(word) >= 1000 / 60 - 0.1 for word in row.split()[1:] if word.replace(".", "").isdecimal())  # minutes
