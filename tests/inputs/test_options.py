"""Options that make no sense are refused in one line, before anything is written; odd ones that do are reported."""

from pathlib import Path

import pytest
import torch

from genai.cli import main
from genai.cli.options.labels import warn_of_excluded
from genai.data import Digits
from genai.errors import UserError
from genai.metrics.kid import kernel_distance
from genai.runs import Run
from tests.data.photographs import encoded, plain, write

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize(
    ("preset", "option"),
    [
        ("digits/gan", "--model.init_args.ema_halflife_kimg -5"),
        ("digits/vae", "--model.init_args.ema_halflife_kimg -0.5"),
        ("digits/gan", "--model.init_args.generator.init_args.latent_dim 0"),
        ("digits/dcgan", "--model.init_args.generator.init_args.latent_dim -1"),
        ("digits/vae", "--model.init_args.latent_dim 0"),
        ("digits/gan", "--checkpoint_every_n_steps -3"),
        ("digits/gan", "--checkpoint_every_n_steps 0"),
    ],
)
def test_options_out_of_range(preset: str, option: str, workspace: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["fit", "-c", str(CONFIGS / f"{preset}.yaml"), *option.split()]) != 0
    flag, value = option.split()
    name = flag.split(".")[-1].removeprefix("--")
    error = capsys.readouterr().err
    assert f"{name} {value} is out of range" in error
    assert "Traceback" not in error
    assert list(workspace.iterdir()) == []


def test_a_set_too_small_to_score_is_refused_before_training(workspace: Path, capsys: pytest.CaptureFixture) -> None:
    photos = write(workspace / "photos", {f"{i}.png": encoded(plain((50 * i, 0, 0))) for i in range(4)})
    arguments = ["--data", "ImageFolder", "--data.init_args.root", str(photos), "--data.init_args.channels", "1"]
    arguments += ["--data.init_args.size", "8", "--evaluation.features", "mnist"]
    assert main(["fit", "-c", str(CONFIGS / "digits/gan.yaml"), *arguments]) != 0
    assert "1 val image, and scores need at least 2" in capsys.readouterr().err
    assert [path.name for path in workspace.iterdir()] == ["photos"]


def test_excluding_all_that_there_is_leaves_no_training_images(monkeypatch: pytest.MonkeyPatch) -> None:
    data = Digits(exclude=[3])
    entry = data.cache_entry()
    monkeypatch.setattr(data, "_entry", type(entry)(entry.images, entry.labels * 0 + 3, entry.meta))
    with pytest.raises(UserError, match="no training image of digits is left"):
        data.prepare_data()


def test_a_label_that_training_excluded_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "config.yaml").write_text(
        "model: {class_path: GAN}\ndata: {class_path: Digits, init_args: {exclude: [3, 5]}}\n"
    )
    names = tuple("0123456789")
    warn_of_excluded([1, 3], names, Run(tmp_path))
    assert "trained without 3 (data.exclude)" in capsys.readouterr().err
    warn_of_excluded([1, 2], names, Run(tmp_path))
    assert capsys.readouterr().err == ""


def test_kid_of_whole_sets_has_no_deviation() -> None:
    x, y = torch.randn(2, 30, 8, generator=torch.Generator().manual_seed(0))
    whole, parts = kernel_distance(x, y, 5, 30), kernel_distance(x, y, 5, 20)
    assert whole.std is None
    assert parts.std is not None
    assert parts.std > 0
    assert kernel_distance(x, y[:20], 5, 20).std is not None
