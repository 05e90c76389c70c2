"""genai directions, edit and editing; latents of a GAN and labels under interpolations: on a GAN of a few batches."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genai.cli import main
from genai.control.direction_files import load_directions
from genai.control.predictors import run_named
from genai.runs import find
from tests.cli.test_editing import refused
from tests.families import family

SHORT = ["--trainer.max_epochs", "14", "--trainer.limit_val_batches", "1", "--model.init_args.ema_halflife_kimg", "0.1"]
SHORT += [f"--model.init_args.{name}_optimizer.init_args.lr=2e-3" for name in ("generator", "discriminator")]
RUN = "edits"


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small GAN of two latents, and its directions."""
    folder = tmp_path_factory.mktemp("edits")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("GENAI_RUNS", raising=False)
        two = ["--model.init_args.generator.init_args.latent_dim", "2"]
        assert main(["fit", *family("gan"), *two, *SHORT, "--experiment", RUN]) == 0
        few = ["--num", "120", "--attributes", "thick,slanted", "--unsupervised", "1"]
        assert main(["directions", RUN, *few]) == 0
    return folder


@pytest.fixture(autouse=True)
def inside(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.delenv("GENAI_RUNS", raising=False)


def size(path: str) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


@pytest.mark.slow
def test_directions_are_saved_with_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    folder = find(RUN).path
    found = load_directions(folder / "directions.safetensors")
    assert [direction.name for direction in found.directions] == ["thick", "slanted", "sefa-1", "ganspace-1"]
    assert (found.space, found.predictor, found.num) == ("z", "digits", 120)
    assert (folder / "directions.png").is_file()
    assert "exists" in refused(capsys, "directions", RUN)


def test_samples_are_edited_alone_and_together() -> None:
    assert main(["edit", RUN, "--set", "thick=1", "--set", "sefa-1=-2", "--num", "3", "--out", "samples.png"]) == 0
    width, height = size("samples.png")
    assert width > 4 * 56
    assert height > 3 * 56
    assert main(["edit", RUN, "--set", "thick=0", "--num", "1", "--out", "same.png"]) == 0
    pixels = np.asarray(Image.open("same.png").convert("L"))[-64:-8]
    ink = np.split(pixels[:, 8 : 8 + 2 * 64], 2, axis=1)
    assert np.array_equal(*ink)  # a step of 0 changes nothing


def test_pictures_are_inverted_first(capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("L", (20, 10), 128).save("large.png")
    assert main(["edit", RUN, "--set", "thick=1", "--image", "test/0", "large.png", "--out", "pictures.png"]) == 0
    output = capsys.readouterr().out
    assert "large.png is 20x10: its central square is resized to 8x8" in output
    assert output.count("inverted with an error of") == 2


def test_a_predictor_is_a_feature_network_or_a_run() -> None:
    assert run_named("digits") is None
    assert run_named("no-such-network") is None
    run = run_named(RUN)
    assert run is not None
    assert run.path == find(RUN).path


@pytest.mark.slow
def test_edits_are_measured_by_another_predictor(capsys: pytest.CaptureFixture[str]) -> None:
    assert "has found these directions" in refused(capsys, "editing", RUN, "--predictor", "digits")
    assert main(["editing", RUN, "--num", "12", "--out", "scores.csv"]) == 0
    output = capsys.readouterr().out
    assert "random: success" in output
    assert "of the labels of real images" in output
    rows = Path("scores.csv").read_text().splitlines()
    assert rows[0] == "edit,0,1,2,3,4,5,6,7,8,9,thick,slanted"
    scores = json.loads((find(RUN).path / "metrics.json").read_text())["editing"]["scores"]
    assert scores["edits"]["thick"]["success"] == pytest.approx(float(rows[1].split(",")[11]), abs=1e-4)
    assert Path("scores.png").is_file()


def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert "does not know 'glasses': choose from 0, 1" in refused(
        capsys, "directions", RUN, "--attributes", "glasses", "--out", "x.safetensors"
    )
    assert "no direction 'age': choose from thick" in refused(capsys, "edit", RUN, "--set", "age=1")
    assert "no direction 'age': choose from thick" in refused(capsys, "editing", RUN, "--attributes", "age")
    for other, words in (("zoo/mnist-cr3gan", "of 1x28x28, not of 1x8x8"), (RUN, "is unconditional")):
        assert words in refused(capsys, "editing", RUN, "--conditional", other)
    assert "cannot sample images" in refused(capsys, "editing", RUN, "--conditional", "zoo/shakespeare-gpt")
    assert "use 2 samples or more" in refused(capsys, "editing", RUN, "--num", "1")
    assert "not NAME=STEP" in refused(capsys, "edit", RUN, "--set", "glasses")
    assert "not a number" in refused(capsys, "edit", RUN, "--set", "glasses=much")
    assert "which cannot decode latents" in refused(capsys, "directions", "zoo/mnist-vqvae", "--out", "x.safetensors")
    assert "genai directions RUN" in refused(capsys, "edit", "zoo/mnist-gan", "--set", "7=1")
    own = str(find(RUN).path / "directions.safetensors")
    assert "belongs to a checkpoint" in refused(capsys, "edit", "zoo/mnist-gan", "--set", "thick=1", "--directions", own)
    assert "no image none.png" in refused(capsys, "edit", RUN, "--set", "thick=1", "--image", "none.png")
    assert "--predictor reads the labels" in refused(capsys, "interpolate", RUN, "--predictor", "digits")
    assert not Path("x.safetensors").exists()


def test_latents_of_a_gan_are_coloured_by_what_a_predictor_reads() -> None:
    assert main(["latents", RUN, "--side", "4", "--num", "50", "--out", "map.png"]) == 0
    with Image.open("map.png") as picture:
        assert picture.mode == "RGB"
    assert Path("map-codes.png").is_file()


@pytest.mark.slow
def test_latents_of_a_gan_with_a_mapping_network_are_those_that_its_generator_takes(capsys: pytest.CaptureFixture[str]) -> None:
    short = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1", "--trainer.precision", "32"]
    assert main(["fit", "-c", "digits/r3gan-2d", *short, "--tracker", "csv"]) == 0
    assert main(["latents", "digits-r3gan-2d", "--side", "4", "--num", "50", "--out", "mapped.png"]) == 0
    assert Path("mapped-codes.png").is_file()


@pytest.mark.slow
def test_latents_of_a_conditional_gan_need_a_label(capsys: pytest.CaptureFixture[str]) -> None:
    two = ["--model.init_args.generator.init_args.latent_dim", "2", "--model.init_args.conditional", "true"]
    short = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1", "--evaluation.every_n_epochs", "0"]
    assert main(["fit", *family("gan"), *two, *short, "--experiment", "labelled"]) == 0
    small = ["--side", "4", "--num", "50", "--out", "labelled.png"]
    assert "a conditional GAN, which needs a label: add --label" in refused(capsys, "latents", "labelled", *small)
    assert main(["latents", "labelled", *small, "--label", "3"]) == 0


def test_labels_are_written_under_each_image() -> None:
    assert main(["interpolate", RUN, "3", "8", "--points", "4", "--read-labels", "--out", "path.png"]) == 0
    with Image.open("path.png") as picture:
        labels = picture.text["Labels"].split("; ")
    assert len(labels) == 4
    assert set(labels) <= set("0123456789")
