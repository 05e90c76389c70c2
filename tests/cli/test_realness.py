"""genai sample --realness: the realness scores of generated and real images."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import genai
from genai.cli import main
from genai.cli.options.realness import RealnessScores, matching_rows, panel
from genai.data.avatars import ATTRIBUTES, Avatars
from genai.data.digits import Digits
from genai.errors import UserError
from genai.images import side_by_side, to_float
from genai.models.seeds import image_seeds
from genai.runs import Run
from genai.runs.data import data_of
from tests.cli.test_cli import DIGITS, QUICK
from tests.encoding import Believer, make_run

TRUST = ["--trust", "tests"]


def rows(path: str | Path) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def gan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unconditional GAN after one epoch."""
    folder = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENAI_RUNS", str(folder / "runs"))
        options = [*QUICK, "--trainer.max_epochs", "1", "--evaluation.every_n_epochs", "0", "--gallery.every_n_epochs", "0"]
        assert main(["fit", "-c", DIGITS, *options]) == 0
    (run,) = (folder / "runs/digits-gan").iterdir()
    return run


@pytest.mark.slow
def test_the_realness_scores_are_the_models(gan: Path, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(gan), "--realness", "--num", "20", "--seed", "3", "--out", "b.csv"]) == 0
    table = rows("b.csv")
    assert [(row["kind"], row["index"]) for row in table] == [
        (kind, str(i)) for kind in ("generated", "real") for i in range(20)
    ]
    assert [row["seed"] for row in table] == [*map(str, image_seeds(3, 20)), *[""] * 20]
    assert {row["label"] for row in table} == {""}
    model = genai.load(gan)
    real = to_float(torch.from_numpy(np.asarray(Digits().split("test").images[:20])))
    output = capsys.readouterr().out
    for images, part in ((model.sample(image_seeds(3, 20)), table[:20]), (real, table[20:])):
        realness = torch.tensor([float(row["realness"]) for row in part])
        torch.testing.assert_close(realness, model.realness(images), atol=2e-6, rtol=0)
        assert f"{realness.mean():.3f} of {part[0]['kind']} images" in output


@pytest.mark.slow
def test_the_picture_lies_beside_the_table(gan: Path, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(gan), "--realness", "--num", "4"]) == 0
    first = gan / "samples/realness-seed-0-num-4.csv"
    picture = Image.open(first.with_suffix(".png"))
    assert {"Software", "Source", "Model", "Run", "Seed"} <= set(picture.text)
    before = first.read_bytes()
    assert main(["sample", str(gan), "--realness", "--num", "4"]) == 0
    assert first.read_bytes() == before
    assert (gan / "samples/realness-seed-0-num-4-1.png").is_file()
    Path("mine.png").write_text("dear to me")
    assert main(["sample", str(gan), "--realness", "--num", "4", "--out", "mine.csv"]) == 2
    assert "--force" in capsys.readouterr().err
    assert not Path("mine.csv").exists()
    assert main(["sample", str(gan), "--realness", "--num", "4", "--out", "mine.csv", "--force"]) == 0
    assert Image.open("mine.png").size == picture.size


def test_images_are_sorted_from_high_to_low_realness() -> None:
    images = torch.tensor([10, 20, 30, 40], dtype=torch.uint8).reshape(4, 1, 1, 1).repeat(1, 1, 28, 28)
    picture = np.asarray(panel(RealnessScores("real", images, [0, 1, 2, 3], [], [], [0.2, 0.9, 0.1, 0.5])))[..., 0]
    centres = [picture[34 + 28 + 82 * row, 8 + 28 + 64 * column] for row in (0, 1) for column in (0, 1)]
    assert centres == [20, 40, 10, 30]
    both = side_by_side([panel(RealnessScores("real", images, [0, 1, 2, 3], [], [], [0.2, 0.9, 0.1, 0.5]))] * 2)
    assert both.width > 2 * picture.shape[1]


def test_real_images_have_the_labels_of_the_generated_ones(workspace: Path) -> None:
    run = make_run(workspace / "runs/digits/one", Digits(), {}, Believer)
    assert main(["sample", str(run), "--realness", *TRUST, "--label", "3,5", "--num", "20", "--out", "b.csv"]) == 0
    table = rows("b.csv")
    assert [row["label"] for row in table] == ["3", "5"] * 20
    test = Digits().split("test")
    places = [int(row["index"]) for row in table[20:]]
    assert sorted(places) == sorted([*np.flatnonzero(test.labels == 3)[:10], *np.flatnonzero(test.labels == 5)[:10]])
    assert {float(row["realness"]) for row in table[:20]} == {0.1}  # one class of ten, its pixel white
    brightest = test.images[places].reshape(20, -1).max(1) / 255 / 10
    np.testing.assert_allclose([float(row["realness"]) for row in table[20:]], brightest, atol=1e-6)


def test_real_images_of_attributes_are_the_nearest(workspace: Path) -> None:
    init_args = {"size": 8, "num_images": 40}
    run = make_run(workspace / "runs/faces/one", Avatars(**init_args), init_args, Believer)
    assert main(["sample", str(run), "--realness", *TRUST, "--label", "glasses", "--num", "6", "--out", "b.csv"]) == 0
    table = rows("b.csv")
    assert all("glasses" in row["label"] for row in table[:6])
    test = Avatars(**init_args).split("test")
    for row in table[6:]:
        values = test.labels[int(row["index"])]
        assert row["label"] == ", ".join(name for name, value in zip(ATTRIBUTES, values, strict=True) if value)
    assert matching_rows(torch.as_tensor(test.labels).flip(0), test, 16) == list(reversed(range(10)))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["zoo/mnist-gan", "--out", "b.csv"], "name a run directory"),
        (["GAN", "--out", "b.png"], "should end in .csv"),
        (["GAN", "--num", "351", "--out", "b.csv"], "choose --num 350 or less"),
        (["GAN", "--num", "5000", "--out", "b.csv"], "at most 1024 images"),
        (["GAN", "--candidates", "8"], "--candidates has no effect on --realness"),
        (["GAN", "--watermark", "key"], "--watermark has no effect on --realness"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], words: str, gan: Path, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(gan) if arguments[0] == "GAN" else arguments[0]
    assert main(["sample", run, "--realness", *arguments[1:]]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not Path("b.csv").exists()


def test_a_model_without_a_realness_is_one_line(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(workspace / "runs/digits/one", Digits(), {})
    assert main(["sample", str(run), "--realness", *TRUST]) == 2
    assert "Encoder, which cannot score realness: it has no discriminator" in capsys.readouterr().err


def test_too_few_real_images_of_a_class(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(workspace / "runs/digits/one", Digits(), {}, Believer)
    assert main(["sample", str(run), "--realness", *TRUST, "--label", "4", "--num", "100", "--out", "b.csv"]) == 2
    assert "too few images of class 4" in capsys.readouterr().err


def test_data_of_a_crafted_config_are_not_built(workspace: Path) -> None:
    run = make_run(workspace / "runs/digits/one", Digits(), {})
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("genai.data.digits.Digits", "subprocess.Popen"))
    with pytest.raises(UserError, match="not among the classes of genai and torch"):
        data_of(Run(run))
