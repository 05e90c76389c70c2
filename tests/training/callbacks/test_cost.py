"""The cost of a fit: counted operations, and metrics.json of a run that was continued."""

import json
from pathlib import Path

import pytest

from genai.cli import main
from genai.models.gan.gan import GAN
from genai.networks.mlp import MLPDiscriminator, MLPGenerator
from genai.training.callbacks.cost import sample_flops


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
    assert float(row.split()[-1]) >= 1000 / 60 - 0.1  # minutes
