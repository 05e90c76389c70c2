"""genai reconstruct, denoise, interpolate, latents, anomalies and the nats of genai likelihood; on tiny untrained models."""

import csv
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor

import genai
from genai.cli import main
from genai.cli.options.images import stack_rows
from genai.cli.verbs import latents
from genai.cli.verbs.anomalies import converted, training_images
from genai.data.avatars import Avatars
from genai.data.base import ImageDataModule
from genai.data.digits import Digits
from genai.images import to_float, to_uint8
from genai.metrics.novelty import novelty
from genai.models.seeds import image_seeds
from genai.runs import FORMAT, write_json
from genai.runs.loading import build_model
from genai.training.record import label_record
from tests.cli.test_editing import refused, test_images, tiles

NETWORKS = "genai.networks.autoencoder"


def make_vae(folder: Path, data: ImageDataModule, data_args: dict[str, Any], **init_args: Any) -> None:
    """A run of a tiny VAE with random weights."""
    networks = {
        kind.lower(): {"class_path": f"{NETWORKS}.MLP{kind}", "init_args": {"hidden": [16]}} for kind in ("Encoder", "Decoder")
    }
    config = {
        "model": {"class_path": "genai.models.vae.vae.VAE", "init_args": networks | {"latent_dim": 2} | init_args},
        "data": {"class_path": f"{type(data).__module__}.{type(data).__name__}", "init_args": data_args},
    }
    record = {"format": FORMAT, "image_shape": list(data.image_shape), "num_classes": data.num_classes, "images_seen": 0}
    record |= {"class_names": list(data.class_names), **label_record(data)}
    torch.manual_seed(0)
    model = build_model(config, record)
    for parameter in model.averaged.parameters():
        parameter.data.normal_(0, 0.5)
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    write_json(folder / "run.json", record)
    torch.save({"state_dict": model.state_dict(), "images_seen": 0}, folder / "checkpoints/last.ckpt")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of digits: plain, of classes, with three latents, without sevens; and of coloured faces with attributes."""
    folder = tmp_path_factory.mktemp("runs")
    make_vae(folder / "plain/one", Digits(), {})
    make_vae(folder / "classes/one", Digits(), {}, conditional=True)
    make_vae(folder / "three/one", Digits(), {}, latent_dim=3)
    make_vae(folder / "sevenless/one", Digits(), {"exclude": [7]})
    faces = {"size": 8, "num_images": 60}
    likelihood = {"class_path": "genai.models.vae.likelihoods.DiscretisedLogistic"}
    make_vae(folder / "faces/one", Avatars(**faces), faces, conditional=True, likelihood=likelihood)
    return folder


@pytest.fixture
def place(runs: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory; `plain` and its like name the runs."""
    monkeypatch.setenv("GENAI_RUNS", str(runs))
    return workspace


def done(*arguments: str) -> np.ndarray:
    """The tiles of the picture `out.png` that a command writes."""
    assert main([*arguments, "--out", "out.png", "--force"]) == 0
    return tiles(Image.open("out.png"))


def model_of(name: str) -> Any:
    return genai.load(name)


def pixels(images: Tensor) -> np.ndarray:
    """Images (N, 1, H, W) in [-1, 1] -> uint8 (N, H, W)."""
    return to_uint8(images)[:, 0].numpy()


def table(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


# -- reconstruct and denoise ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_originals_stand_over_reconstructions(place: Path) -> None:
    grid = done("reconstruct", "plain", "--num", "5")
    assert grid.shape == (2, 5, 8, 8)
    images = test_images(0, 1, 2, 3, 4)
    assert np.array_equal(grid[0], images[:, 0])
    assert np.array_equal(grid[1], pixels(model_of("plain").reconstruct(to_float(images))))
    named = done("reconstruct", "plain", "test/3", "test/1")
    assert np.array_equal(named, grid[:, [3, 1]])


def test_long_rows_are_cut_and_filled() -> None:
    rows = [torch.full((20, 1, 2, 2), value) for value in (0.0, 1.0)]
    images, columns = stack_rows(rows)
    assert columns == 16
    means = images.mean(dim=(1, 2, 3)).view(4, 16)
    assert means.tolist() == [[0.0] * 16, [1.0] * 16, [0.0] * 4 + [-1.0] * 12, [1.0] * 4 + [-1.0] * 12]


def test_test_images_are_conditioned_on_their_own_labels(place: Path) -> None:
    model, images = model_of("classes"), to_float(test_images(0, 1))
    labels = torch.from_numpy(Digits().split("test").labels[:2])
    assert np.array_equal(done("reconstruct", "classes", "--num", "2")[1], pixels(model.reconstruct(images, labels)))
    asked = done("reconstruct", "classes", "--num", "2", "--label", "4")[1]
    assert np.array_equal(asked, pixels(model.reconstruct(images, torch.tensor([4, 4]))))
    assert np.array_equal(done("reconstruct", "classes", "test/0", "test/1")[1], pixels(model.reconstruct(images)))
    assert done("reconstruct", "faces", "--num", "3").shape == (2, 3, 8, 8, 3)


def test_noise_is_added_and_the_code_of_the_noisy_image_decoded(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = done("denoise", "plain", "--num", "3", "--noise", "0.7", "--seed", "1")
    assert grid.shape == (3, 3, 8, 8)
    assert np.array_equal(grid[0], test_images(0, 1, 2)[:, 0])
    assert not np.array_equal(grid[0], grid[1])
    noisy = to_float(torch.from_numpy(grid[1].copy()))[:, None]
    assert np.array_equal(grid[2], pixels(model_of("plain").reconstruct(noisy)))
    assert " dB noisy, " in capsys.readouterr().out
    clean = done("denoise", "plain", "--num", "3", "--noise", "0")
    assert np.array_equal(clean[0], clean[1])
    assert "--noise: -1" in refused(capsys, "denoise", "plain", "--noise=-1")


# -- interpolate ---------------------------------------------------------------------------------------------------------


def test_a_path_between_pictures_begins_and_ends_with_them(place: Path) -> None:
    grid = done("interpolate", "plain", "test/3", "test/7", "--points", "4")
    images = test_images(3, 7)
    assert grid.shape == (1, 6, 8, 8)
    assert np.array_equal(grid[0, [0, 5]], images[:, 0])
    rebuilt = pixels(model_of("plain").reconstruct(to_float(images))).astype(int)
    assert np.abs(grid[0, [1, 4]] - rebuilt).max() <= 1
    assert not np.array_equal(grid, done("interpolate", "plain", "test/3", "test/7", "--points", "4", "--path", "lerp"))


@pytest.mark.parametrize("run", ["plain", "zoo/mnist-gan"])
def test_a_path_between_seeds_goes_through_their_samples(run: str, place: Path) -> None:
    assert main(["interpolate", run, "3", "8", "--points", "3", "--out", "out.png"]) == 0
    model = model_of(run)
    grid = tiles(Image.open("out.png"), model.image_shape[-1])
    ends = pixels(model.sample([*image_seeds(3, 1), *image_seeds(8, 1)])).astype(int)
    assert np.abs(grid[0, [0, 2]] - ends).max() <= 1
    assert main(["interpolate", run, "--num", "2", "--points", "5", "--out", "pairs.png"]) == 0
    assert tiles(Image.open("pairs.png"), model.image_shape[-1]).shape[:2] == (2, 5)
    assert main(["interpolate", run, "--num", "2", "--points", "5", "--out", "pairs.gif"]) == 0
    assert Image.open("pairs.gif").n_frames == 5


@pytest.mark.slow
def test_a_path_between_digits_keeps_the_class(place: Path) -> None:
    assert main(["interpolate", "zoo/mnist-cr3gan", "3", "8", "--points", "3", "--label", "7", "--out", "out.png"]) == 0
    grid = tiles(Image.open("out.png"), 28)
    model = model_of("zoo/mnist-cr3gan")
    ends = pixels(model.decode(model.latents([*image_seeds(3, 1), *image_seeds(8, 1)]), torch.tensor([7, 7]))).astype(int)
    assert np.abs(grid[0, [0, 2]] - ends).max() <= 1
    assert main(["interpolate", "zoo/mnist-cr3gan", "--num", "2", "--points", "3"]) == 0


def test_a_path_between_faces_goes_from_the_attributes_of_one_to_those_of_the_other(place: Path) -> None:
    assert main(["interpolate", "zoo/avatars-cr3gan", "3", "8", "--points", "3", "--out", "out.png"]) == 0
    model = model_of("zoo/avatars-cr3gan")
    labels = torch.tensor(genai.runs.find("zoo/avatars-cr3gan").record()["label_examples"][:2]).float()
    ends = to_uint8(model.decode(model.latents([*image_seeds(3, 1), *image_seeds(8, 1)]), labels)).movedim(1, -1)
    decoded = tiles(Image.open("out.png"), 64)[0, [0, 2]].astype(int)
    assert np.abs(decoded - ends.numpy().astype(int)).max() <= 1


def test_ends_come_in_pairs(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "two ends, not 1" in refused(capsys, "interpolate", "plain", "test/0")
    assert "cannot interpolate between images: name a run of a preset that can, such as configs/digits/vae.yaml" in refused(
        capsys, "interpolate", "zoo/mnist-gan", "test/0", "4"
    )


# -- latents -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_manifold_rises_to_the_right_and_upwards(place: Path) -> None:
    grid = done("latents", "plain", "--side", "3")
    assert grid.shape == (3, 3, 8, 8)
    edge = float(torch.special.ndtri(torch.tensor(5 / 6)))
    corners = torch.tensor([[-edge, edge], [edge, edge], [-edge, -edge]])  # above left, above right, below left
    expected = pixels(model_of("plain").decode(corners)).astype(int)
    assert np.abs(grid[[0, 0, 2], [0, 2, 0]] - expected).max() <= 3
    assert Image.open("out-codes.png").size == (960, 960)
    assert main(["latents", "faces", "--out", "faces.png"]) == 0


def test_the_whole_test_split_is_encoded(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, draw = [], latents.scatter
    monkeypatch.setattr(latents, "scatter", lambda *given: seen.append(given[:2]) or draw(*given))
    assert main(["latents", "plain", "--side", "3"]) == 0
    ((codes, labels),) = seen
    split = Digits().split("test")
    torch.testing.assert_close(codes, model_of("plain").encode(to_float(torch.from_numpy(np.asarray(split.images)))))
    assert np.array_equal(labels, split.labels)


def test_only_two_latents_can_be_plotted(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "only 2 can be shown" in refused(capsys, "latents", "three")
    assert "ends in .png" in refused(capsys, "latents", "plain", "--out", "a.jpg")
    Path("a-codes.png").write_text("mine")
    assert "--force" in refused(capsys, "latents", "plain", "--out", "a.png")


# -- anomalies and likelihood --------------------------------------------------------------------------------------------


def test_the_table_ranks_images_by_their_bound(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["anomalies", "plain", "test", "--num", "60", "--samples", "4", "--score", "bound", "--out", "a.csv"]) == 0
    rows = table("a.csv")
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert [row["rank"] for row in rows] == [str(i) for i in range(1, 61)]
    numbers = sorted(int(row["image"].removeprefix("test/")) for row in rows)
    split = Digits().split("test")
    assert {row["image"]: row["label"] for row in rows} == {f"test/{i}": str(split.labels[i]) for i in numbers}
    first = model_of("plain").likelihood_bound(to_float(test_images(numbers[0])), image_seeds(0, 1), num_samples=4).nats
    (row,) = [row for row in rows if row["image"] == f"test/{numbers[0]}"]
    assert float(row["score"]) == pytest.approx(float(first), abs=2e-3)
    assert Image.open("a.png").width > 300
    assert "AUROC" not in capsys.readouterr().out


def test_a_class_excluded_from_training_is_the_anomaly(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["anomalies", "sevenless", "test", "--num", "350", "--samples", "2", "--out", "a.csv"]) == 0
    rows = table("a.csv")
    line = capsys.readouterr().out
    strange = [float(row["score"]) for row in rows if row["label"] == "7"]
    ordinary = [float(row["score"]) for row in rows if row["label"] != "7"]
    assert f"({len(strange)} anomalous images, {len(ordinary)} test images of the run's data)" in line
    won = np.mean([(one > other) + 0.5 * (one == other) for one in strange for other in ordinary])
    assert float(line.split("AUROC ")[1].split()[0]) == pytest.approx(won, abs=2e-3)


def test_codes_are_ranked_by_their_distance_to_those_of_training_images(place: Path) -> None:
    assert main(["anomalies", "sevenless", "test", "--num", "50", "--score", "codes", "--out", "a.csv"]) == 0
    model, data = model_of("sevenless"), Digits(exclude=[7])
    (known, usual), test = training_images(data), data.split("test").images
    assert len(known) + len(usual) == len(data.split("train"))
    expected = novelty(*(model.encode(to_float(torch.as_tensor(np.asarray(images)))) for images in (test, known)))
    for row in table("a.csv"):
        assert float(row["score"]) == pytest.approx(float(expected[int(row["image"].removeprefix("test/"))]), abs=1e-3)
    assert main(["anomalies", "classes", "test", "--num", "5", "--score", "codes", "--out", "b.csv"]) == 0


def test_both_scores_count_in_standard_deviations_of_training_images(place: Path) -> None:
    columns = []
    for score in ("excess", "codes", "both"):
        samples = [] if score == "codes" else ["--samples", "2"]
        assert main(["anomalies", "plain", "test", "--num", "30", *samples, "--score", score, "--out", f"{score}.csv"]) == 0
        columns.append({row["image"]: float(row["score"]) for row in table(f"{score}.csv")})
    excess, codes, both = (torch.tensor([column[name] for name in sorted(columns[0])]) for column in columns)
    terms = torch.stack([excess, codes, torch.ones(30)], dim=1)
    weights = torch.linalg.lstsq(terms, both[:, None]).solution
    torch.testing.assert_close((terms @ weights)[:, 0], both, rtol=0, atol=0.05)
    assert bool((weights[:2] > 0).all())


def test_pictures_of_a_folder_are_ranked_beside_the_runs_own(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine").mkdir()
    Image.fromarray(np.random.RandomState(0).randint(256, size=(40, 40, 3), dtype=np.uint8)).save("mine/noise.png")
    Image.fromarray(test_images(4)[0, 0].numpy()).save("mine/digit.png")
    Path("mine/broken.png").write_bytes(b"no picture")
    Path("mine", os.fsdecode(b"caf\xe9.png")).write_bytes(Path("mine/digit.png").read_bytes())  # a name that is not UTF-8
    for run in ("plain", "faces"):
        assert main(["anomalies", run, "mine", "--num", "20", "--samples", "2", "--out", f"{run}.csv"]) == 0
        assert {row["image"] for row in table(f"{run}.csv")} == {"noise.png", "digit.png", "caf\\xe9.png"}
    captured = capsys.readouterr()
    assert "skipped broken.png" in captured.err
    assert "(3 anomalous images, 15 test images of the run's data)" in captured.out
    assert "there is no nowhere" in refused(capsys, "anomalies", "plain", "nowhere")
    assert "should end in .csv" in refused(capsys, "anomalies", "plain", "test", "--out", "a.png")


def test_faces_of_another_style_are_ranked_beside_avatars(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["anomalies", "faces", "lorelei", "--num", "6", "--samples", "2", "--out", "a.csv"]) == 0
    assert {row["image"] for row in table("a.csv")} == {f"lorelei/{i}" for i in range(6)}
    assert "(6 anomalous images, 6 test images of the run's data)" in capsys.readouterr().out


def test_images_are_converted_to_the_models_shape() -> None:
    grey = torch.randint(256, (2, 1, 8, 8), dtype=torch.uint8)
    assert torch.equal(converted(grey, (1, 8, 8)), grey)
    assert torch.equal(converted(grey, (3, 8, 8)), grey.expand(-1, 3, -1, -1))
    flat = torch.full((1, 3, 28, 28), 77, dtype=torch.uint8)
    assert torch.equal(converted(flat, (1, 8, 8)), torch.full((1, 1, 8, 8), 77, dtype=torch.uint8))


def test_nats_and_bits_per_dim_are_printed_and_kept(place: Path, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["likelihood", "plain", "--num", "40", "--samples", "50"]) == 0
    output = capsys.readouterr().out
    entry = json.loads((runs / "plain/one/metrics.json").read_text())["likelihood"]
    for name in ("nats", "bits_per_dim"):
        assert f"{entry[name]:.4f} +- {entry[f'{name}_standard_error']:.4f}" in output
    assert entry["bits_per_dim"] == pytest.approx(entry["nats"] / (64 * math.log(2)))
    assert entry["kind"] == "IWAE bound with 50 samples, binarised pixels"
    assert entry["kind"] in output
    assert entry["num"] == 40
    assert main(["likelihood", "plain", "--num", "40", "--samples", "1"]) == 0
    assert "IWAE" not in capsys.readouterr().out
    elbo = json.loads((runs / "plain/one/metrics.json").read_text())["likelihood"]
    assert elbo["nats"] > entry["nats"]
    assert elbo["kind"] == "ELBO, binarised pixels"
    assert "a standard error needs 2 images" in refused(capsys, "likelihood", "plain", "--num", "1", "--samples", "1")
    conditional = ["likelihood", "classes", "--num", "4", "--samples", "2"]
    assert main(conditional) == 0
    assert ", conditional on the labels" in capsys.readouterr().out
    assert main([*conditional, "--unconditional"]) == 0
    assert ", unconditional" in capsys.readouterr().out


def test_other_models_say_what_they_cannot(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in (["reconstruct"], ["denoise"], ["likelihood"]):
        assert "is a GAN, which cannot" in refused(capsys, *verb, "zoo/mnist-gan")
    assert "is a GAN, which cannot" in refused(capsys, "anomalies", "zoo/mnist-gan", "test")
