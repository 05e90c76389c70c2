"""Without the command line: a fit in Python leaves a run, and a checkpoint rebuilds its model."""

from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint

import genai
from genai import runs
from genai.cli import main
from genai.data.digits import Digits
from genai.errors import DamagedFileError, UserError
from genai.models.base import Model
from genai.models.classifier.classifier import Classifier
from genai.models.diffusion.diffusion import Diffusion
from genai.models.gan.gan import GAN
from genai.models.gan.objectives import Relativistic
from genai.models.hyperparameters import to_plain
from genai.models.vae.vae import VAE
from genai.models.vqvae.vqvae import VQVAE
from genai.networks.mlp import MLPDiscriminator, MLPGenerator
from genai.runs.loading import MARK
from tests.families import FAMILIES, QUIET, family

CLASSES: dict[str, type[Model]] = {"gan": GAN, "diffusion": Diffusion, "vae": VAE, "vqvae": VQVAE, "features": Classifier}
SHORT = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "0"]
ADAM = {"class_path": "torch.optim.Adam", "init_args": {"lr": 1e-3}}


def trainer(*callbacks: L.Callback, **options: object) -> L.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    given = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "limit_train_batches": 2,
        "limit_val_batches": 0,
        "log_every_n_steps": 1,
        **quiet,
        **options,
    }
    return L.Trainer(callbacks=list(callbacks), **given)  # type: ignore[arg-type]


def gan() -> GAN:
    """A GAN of partials, a class instance and a dict."""
    return GAN(
        (1, 8, 8),
        10,
        partial(MLPGenerator, hidden=[16]),
        partial(MLPDiscriminator, hidden=(16,), dropout=0.0),
        generator_optimizer=ADAM,  # type: ignore[arg-type]
        discriminator_optimizer=partial(torch.optim.SGD, lr=0.1),
        objective=Relativistic(),
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_checkpoint_of_the_command_line_rebuilds_its_model(name: str, workspace: Path) -> None:
    assert main(["fit", *family(name), *SHORT]) == 0
    path = runs.find(f"digits-{name}").checkpoint("last")
    hparams = torch.load(path, weights_only=True)["hyper_parameters"]
    assert tuple(hparams["image_shape"]) == (1, 8, 8)
    assert hparams["num_classes"] == 10
    model = CLASSES[name].load_from_checkpoint(path, weights_only=True)
    saved = torch.load(path, weights_only=True)["state_dict"]
    assert all(torch.equal(value, saved[key]) for key, value in model.state_dict().items())


@pytest.mark.slow
def test_a_fit_in_python_leaves_a_run_that_the_verbs_read(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = Digits(batch_size=32)
    trainer(genai.RecordRun("runs/mine/first")).fit(gan(), datamodule=data)
    run = Path("runs/mine/first")
    model = genai.load(run)
    assert model.sample(range(3)).shape == (3, 1, 8, 8)
    assert model.images_seen == 64
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["model"]["init_args"]["generator"]["init_args"] == {"hidden": [16]}
    assert config["data"]["init_args"]["batch_size"] == 32
    assert (run / "metrics.csv").read_text().startswith("images_seen,")
    scores = ["--evaluation.num_samples", "50"]
    assert main(["test", str(run), *QUIET, *scores]) == 0
    assert main(["sample", "mine", "--num", "4", "--out", "four.npz"]) == 0
    assert main(["fit", "--resume", str(run), "--trainer.max_epochs", "2", *QUIET, *scores]) == 0
    with pytest.raises(UserError, match="is a run already"):
        trainer(genai.RecordRun(run)).fit(gan(), datamodule=data)


def test_a_run_of_python_continues(workspace: Path) -> None:
    trainer(genai.RecordRun("runs/mine/first")).fit(gan(), datamodule=Digits(batch_size=32))
    more = trainer(genai.RecordRun("runs/mine/first"), max_epochs=2)
    more.fit(gan(), datamodule=Digits(batch_size=32), ckpt_path="runs/mine/first/checkpoints/last.ckpt")
    assert genai.load("runs/mine/first").images_seen == 128


def test_a_flipped_bit_of_a_run_of_python_is_refused(workspace: Path) -> None:
    best = ModelCheckpoint("runs/mine/first/checkpoints", filename="best")
    trainer(genai.RecordRun("runs/mine/first"), best, enable_checkpointing=True).fit(gan(), datamodule=Digits(batch_size=32))
    run = Path("runs/mine/first")
    for name in ("last", "best"):
        path = run / f"checkpoints/{name}.ckpt"
        content = bytearray(path.read_bytes())
        assert MARK in content
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        with pytest.raises(DamagedFileError, match=f"{name}.ckpt is damaged"):
            genai.load(run, checkpoint=name)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    more = trainer(genai.RecordRun(run), max_epochs=2)
    with pytest.raises(DamagedFileError, match=r"last.ckpt is damaged"):
        more.fit(gan(), datamodule=Digits(batch_size=32), ckpt_path=str(run / "checkpoints/last.ckpt"))
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_what_cannot_be_written_down_is_one_error(workspace: Path) -> None:
    model = GAN((1, 8, 8), 10, lambda *shape: MLPGenerator(*shape, hidden=[16]), partial(MLPDiscriminator, hidden=[16]))
    with pytest.raises(UserError, match=r"config.yaml: generator: .*<lambda> cannot be written into a config"):
        trainer(genai.RecordRun("runs/mine/first")).fit(model, datamodule=Digits(batch_size=32))
    assert not Path("runs").exists()
    trainer().fit(model, datamodule=Digits(batch_size=32))  # which learns all the same


def test_a_model_of_python_is_rebuilt_from_its_checkpoint(workspace: Path) -> None:
    model = gan()
    fitted = trainer()
    fitted.fit(model, datamodule=Digits(batch_size=32))
    fitted.save_checkpoint("model.ckpt", weights_only=False)
    again = GAN.load_from_checkpoint("model.ckpt", weights_only=True)
    assert isinstance(again.objective, Relativistic)
    assert torch.equal(
        again.generator(torch.ones(2, again.layout.latent_dim)), model.generator(torch.ones(2, model.layout.latent_dim))
    )
    optimizers = again.configure_optimizers()
    assert [type(optimizer).__name__ for optimizer in optimizers] == ["Adam", "SGD"]


def test_plain_values() -> None:
    assert to_plain({"a": (1, 2.0), "b": Path("x")}) == {"a": [1, 2.0], "b": "x"}
    assert to_plain(MLPGenerator) == {"class_path": "genai.networks.mlp.MLPGenerator"}
    nested = partial(MLPGenerator, hidden=[1])
    assert to_plain([nested]) == [{"class_path": "genai.networks.mlp.MLPGenerator", "init_args": {"hidden": [1]}}]
    for value in (lambda: 0, torch.ones(2)):
        with pytest.raises(UserError, match="option"):
            to_plain(value, "option")
