"""A conditional model is conditioned on the given labels, image by image."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genai.cli import main
from genai.cli.options.labels import null_condition
from genai.cli.options.run import RunOptions
from genai.data.avatars import ATTRIBUTES, Avatars
from genai.data.digits import Digits
from genai.errors import UserError
from genai.runs import write_json
from genai.training.callbacks.gallery import gallery_condition
from genai.training.record import label_record
from tests.cli.test_cli import QUICK, ROOT
from tests.encoding import Encoder, decoded, make_run

FACES = {"size": 8, "num_images": 200}
GLASSES, BEARD = ATTRIBUTES.index("glasses"), ATTRIBUTES.index("beard")
BLACK, BLOND = ATTRIBUTES.index("black_hair"), ATTRIBUTES.index("blond_hair")


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "faces/one", Avatars(**FACES), FACES)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "digits/one", Digits(), {})


def examples(run: Path) -> np.ndarray:
    return np.array(json.loads((run / "run.json").read_text())["label_examples"])


def sampled(run: Path, *arguments: str) -> tuple[np.ndarray, np.ndarray]:
    """The condition that each image of `genai sample` encodes, and the labels in the file."""
    out = Path(f"{len(list(Path().glob('*.npz')))}.npz")
    assert main(["sample", str(run), "--trust", "tests", "--out", str(out), *arguments]) == 0
    arrays = np.load(out)
    images, labels = arrays["images"], arrays["labels"]
    images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    return decoded(torch.from_numpy(images), 10 if labels.ndim == 1 else labels.shape[1]).numpy(), labels


def test_sample_gives_each_image_its_own_condition() -> None:
    """Over the edges of chunks, the last one padded; attributes as vectors, classes as numbers."""
    model = Encoder((1, 8, 8), 10)
    classes = torch.arange(150) * 7 % 10
    assert torch.equal(decoded(model.sample(range(150), classes), 10).argmax(1), classes)
    vectors = torch.rand(150, 10, generator=torch.Generator().manual_seed(0)).round()
    assert torch.equal(decoded(model.sample(range(150), vectors), 10), vectors)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--label", "4", "--num", "3"], [4, 4, 4]),
        (["--label", "3,5", "--num", "5"], [3, 5, 3, 5, 3]),
        (["--num", "12"], [*range(10), 0, 1]),
        (["--label", "all", "--per-label", "2"], [label for label in range(10) for _ in range(2)]),
    ],
)
def test_classes(arguments: list[str], expected: list[int], digits: Path, workspace: Path) -> None:
    said, labels = sampled(digits, *arguments)
    assert labels.tolist() == said.argmax(1).tolist() == expected
    assert (said.sum(1) == 1).all()


@pytest.mark.slow
def test_attributes_are_those_of_training_images_in_turn(faces: Path, workspace: Path) -> None:
    said, labels = sampled(faces, "--num", "70")
    train = Avatars(**FACES).split("train").labels
    assert np.array_equal(said, labels)
    assert np.array_equal(said[:64], examples(faces))
    assert np.array_equal(said[64:], said[:6])
    assert np.array_equal(said[[0, 63]], train[[0, 199]])
    assert all((train == vector).all(1).any() for vector in said)


def test_a_label_sets_its_attributes_and_leaves_the_others(faces: Path, workspace: Path) -> None:
    said, _ = sampled(faces, "--label", "glasses,no-beard")
    expected = examples(faces)
    expected[:, GLASSES], expected[:, BEARD] = 1, 0
    assert np.array_equal(said, expected)


def test_a_label_takes_back_what_no_training_image_has_with_it(faces: Path, workspace: Path) -> None:
    said, _ = sampled(faces, "--label", "blond_hair")
    assert said[:, BLOND].all()
    assert examples(faces)[:, BLACK].any()
    assert not said[:, BLACK].any()
    said, _ = sampled(faces, "--label", "blond_hair,black_hair")
    assert said[:, [BLOND, BLACK]].all()


def test_all_sets_each_attribute_in_turn(faces: Path, workspace: Path) -> None:
    said, _ = sampled(faces, "--label", "all", "--per-label", "10")
    assert len(said) == 160
    assert all(said[10 * k : 10 * k + 10, k].all() for k in range(16))
    assert np.array_equal(said[:10, 1:], examples(faces)[:10, 1:])
    said, _ = sampled(faces, "--label", "all", "--num", "20")
    assert said[np.arange(20), np.arange(20) % 16].all()


def test_an_attribute_cannot_be_set_both_ways(faces: Path, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(faces), "--trust", "tests", "--label", "glasses,hat,no-glasses"]) == 2
    assert "names both glasses and no-glasses" in capsys.readouterr().err


def test_a_grid_of_all_attributes_names_its_rows(faces: Path, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--trust", "tests", "--label", "all", "--per-label", "2", "--out", "all.png"]
    assert main(["sample", str(faces), *arguments]) == 0
    assert capsys.readouterr().out == f"wrote all.png (rows: {', '.join(ATTRIBUTES)})\n"
    assert Image.open("all.png").text["Rows"] == ", ".join(ATTRIBUTES)


def test_a_png_names_the_attributes_that_are_set(faces: Path, workspace: Path) -> None:
    assert main(["sample", str(faces), "--trust", "tests", "--num", "2", "--label", "hat", "--out", "folder/"]) == 0
    row = examples(faces)[1]
    row[ATTRIBUTES.index("hat")] = 1
    text = Image.open("folder/00001.png").text["Label"]
    assert text == ", ".join(name for name, value in zip(ATTRIBUTES, row, strict=True) if value)


@pytest.mark.parametrize("label", ["glases", "no-glases", "4", "glasses,glases"])
def test_an_unknown_attribute_is_one_line(label: str, faces: Path, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(faces), "--trust", "tests", "--label", label]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "did you mean glasses?" in error or label == "4"
    assert "tilted_right" in error


def test_a_record_without_label_keys(faces: Path, digits: Path, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A record without label keys: classes work, attributes are an error that names the fix."""
    for run in (faces, digits):
        copy = workspace / run.parent.name
        (copy / "checkpoints").mkdir(parents=True)
        (copy / "config.yaml").write_text((run / "config.yaml").read_text())
        (copy / "checkpoints/last.ckpt").write_bytes((run / "checkpoints/last.ckpt").read_bytes())
        record = json.loads((run / "run.json").read_text())
        write_json(copy / "run.json", {key: value for key, value in record.items() if not key.startswith("label")})
    assert sampled(workspace / "digits", "--label", "4", "--num", "2")[1].tolist() == [4, 4]
    capsys.readouterr()
    assert main(["sample", "faces", "--trust", "tests"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "genai fit --resume" in error


def test_the_record_of_labels() -> None:
    assert label_record(Digits()) == {"label_kind": "class"}
    record = label_record(Avatars(**FACES))
    assert np.array(record["label_examples"]).shape == (64, 16)
    assert {type(value) for row in record["label_examples"] for value in row} == {int}
    groups = [{"black_hair", "blond_hair", "red_hair"}, {"wide_eyes", "closed_eyes"}, {"tilted_left", "tilted_right"}]
    assert all(any({one, other} <= group for group in groups) for one, other in record["label_exclusive"])
    assert len(label_record(Avatars(8, 5))["label_examples"]) == 5


def test_the_gallery_is_conditioned_on_attributes_of_real_images() -> None:
    data = Avatars(**FACES)
    labels = torch.as_tensor(data.split("val").labels)
    condition = gallery_condition(Encoder(data.image_shape, 16), data, 55)
    assert condition is not None
    assert torch.equal(condition, torch.cat([labels, labels[:5]]))
    classes = gallery_condition(Encoder((1, 8, 8), 10), Digits(), 12)
    assert classes is not None
    assert classes.tolist() == [*range(10), 0, 1]


@pytest.mark.slow
def test_a_gan_of_attributes_trains_samples_and_records(workspace: Path) -> None:
    config = str(ROOT / "configs/avatars/gan.yaml")
    options = ["--model.init_args.conditional", "true", "--data.init_args.num_images", "60", "--data.init_args.size", "16"]
    options += [*QUICK, "--data.init_args.batch_size", "30", "--trainer.max_epochs", "1", "--evaluation.num_samples", "60"]
    options += ["--evaluation.features", "avatars", "--model.init_args.generator.init_args.width", "4"]
    assert main(["fit", "-c", config, *options]) == 0
    (run,) = Path("runs/avatars-gan").iterdir()
    record = json.loads((run / "run.json").read_text())
    assert record["label_kind"] == "attributes"
    assert main(["sample", str(run), "--label", "glasses", "--num", "5", "--out", "five.npz"]) == 0
    assert np.load("five.npz")["labels"][:, GLASSES].tolist() == [1] * 5
    write_json(run / "run.json", {key: value for key, value in record.items() if not key.startswith("label")})
    assert main(["fit", "--resume", str(run), *QUICK, "--trainer.max_epochs", "2"]) == 0
    again = json.loads((run / "run.json").read_text())
    assert {key: again[key] for key in record if key != "signature"} | {"signature": record["signature"]} == record


def test_two_numbers_of_images_are_a_users_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "zoo/mnist-cr3gan", "--num", "8", "--per-label", "3"]) == 2
    assert "leave one of them out" in capsys.readouterr().err


def test_a_conditional_gan_has_no_null_condition() -> None:
    with pytest.raises(UserError, match="a conditional GAN, which needs a label: add --label"):
        null_condition(RunOptions("zoo/mnist-cr3gan").load(), 2)
    found = null_condition(RunOptions("zoo/digits-diffusion").load(), 2)
    assert found is not None
    assert found.tolist() == [-1, -1]
