"""Presets and zoo entries are found by name, a path first; every preset's header gives its time and its scores."""

import re
from pathlib import Path

import pytest
import yaml

from genai.cli import main
from genai.errors import UserError
from genai.shipped import CONFIGS, config_path, preset_name, preset_paths, presets, read_preset
from genai.training.arguments import experiment_name, parse


@pytest.mark.parametrize("name", ["digits/gan", "configs/digits/gan.yaml", "digits/gan.yaml", "configs/digits/gan"])
def test_a_preset_is_found_by_name_from_any_folder(workspace: Path, name: str) -> None:
    assert config_path(name) == str(CONFIGS / "digits/gan.yaml")
    assert experiment_name(config_path(name)) == "digits-gan"


def test_a_path_wins_over_a_name(workspace: Path) -> None:
    Path("digits").mkdir()
    Path("digits/gan").write_text("model: mine\n")
    assert config_path("digits/gan") == "digits/gan"
    assert parse(["-c", "digits/gan", "--config=digits/vae"]).rest == (
        "-c",
        "digits/gan",
        f"--config={CONFIGS}/digits/vae.yaml",
    )


@pytest.mark.parametrize(
    ("name", "close"), [("digits/gna", "digits/gan"), ("wgan-gp", "mnist/wgan-gp"), ("trainer/gpus", "trainer/gpu")]
)
def test_an_unknown_name_lists_close_ones(workspace: Path, name: str, close: str) -> None:
    with pytest.raises(UserError, match=f"did you mean .*{close}") as error:
        config_path(name)
    assert "\n" not in str(error.value)


def test_options_keep_their_order_and_values(workspace: Path) -> None:
    request = parse(["-c", "digits/gan", "--trainer.max_epochs", "3", "-c", "trainer/cpu", "--experiment", "digits/gan"])
    first, second = str(CONFIGS / "digits/gan.yaml"), str(CONFIGS / "trainer/cpu.yaml")
    assert request.rest == ("-c", first, "--trainer.max_epochs", "3", "-c", second, "--experiment", "digits/gan")


def test_a_command_names_its_preset() -> None:
    assert preset_name("genai fit -c configs/mnist/gan.yaml --seed_everything 1") == "mnist/gan"
    assert preset_name("genai fit --config=mnist/gan -c trainer/gpu") == "mnist/gan"
    assert preset_name("genai fit -c /elsewhere/configs/mnist/gan.yaml") == "mnist/gan"
    assert preset_name("genai fit -c mine.yaml") == ""


def test_a_header_has_time_and_scores() -> None:
    scores = r"not measured yet.*|.*(FID|PSNR|AUROC|accuracy|reward) -?[\d.]+.*"
    scores += r"|[\d.]+ bits per byte|[\d.]+ nats (per character|\(.*)"
    for preset in presets():
        assert len(preset.what) > 5, preset.name
        assert re.fullmatch(scores, preset.scores), preset.name
        assert bool(preset.score) == bool(preset.time), preset.name
        assert re.fullmatch(r"|((about|under) )?[\d.]+( to [\d.]+)?|a few", preset.minutes), preset.name


def test_the_fields_of_a_header(tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    path.write_text(
        "# A model of\n# digits.\n#   genai fit -c one.yaml\n# Time: 90 s on a CPU.\n# Scores: KL 0.5 (0.1; ideal, 0.0), FID\n"
        "# 3 (1). Test split.\n# Note: Slow.\nmodel: x\n"
    )
    preset = read_preset("a/one", path)
    assert preset == ("a/one", "A model of digits.", "90 s", "KL 0.5 (0.1; ideal, 0.0), FID 3 (1)", False)
    assert (preset.data, preset.minutes, preset.score) == ("a", "1.5", "KL 0.5 (0.1; ideal, 0.0)")
    for hardware, on_gpu in (("on an NVIDIA H100", True), (", one core of a Xeon (host of an NVIDIA H100)", False)):
        path.write_text(f"# A model.\n# Time: 9 min {hardware}.\n# Scores: FID 3 (1). Test split.\nmodel: x\n")
        assert read_preset("a/one", path).on_gpu == on_gpu


@pytest.mark.parametrize("words", [[], ["vae", "mnist"]])
def test_the_table_has_each_preset_in_80_columns(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert all(re.match(r"\S+ +minutes  |\S+/\S+ |    \S|genai fit|score: |$", line) for line in lines)  # no row is wrapped
    names = {line.split()[0] for line in lines if re.match(r"\S+/\S+ ", line)}
    expected = {name for name in preset_paths() if not name.startswith(("trainer/", "sweeps/"))}
    assert names == expected if not words else {"mnist/vae", "mnist/vqvae"} <= names < expected
    assert main(["presets", "no-such-model"]) == 2


def test_the_zoo_is_found_from_any_folder(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "zoo/digits-diffusion", "--num", "2", "--steps", "2", "--out", "two.png"]) == 0
    assert Path("two.png").is_file()
    assert main(["fit", "-c", "digits/gna"]) == 2
    assert "did you mean digits/gan" in capsys.readouterr().err


def test_every_header_is_a_comment_and_every_preset_a_mapping() -> None:
    for path in preset_paths().values():
        assert isinstance(yaml.safe_load(path.read_text()), dict)
