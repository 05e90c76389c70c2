"""An option that a model of this kind does not use is refused in one line, before anything is written."""

from pathlib import Path

import pytest

from genai.cli import main

VAE, GPT, PIXELS = "zoo/mnist-vae", "zoo/shakespeare-gpt", "zoo/mnist-pixels"


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (["likelihood", VAE, "--steps", "9"], "--steps"),
        (["likelihood", VAE, "--split", "val"], "--split"),
        (["likelihood", VAE, "--stride", "9"], "--stride"),
        (["likelihood", "zoo/digits-diffusion", "--samples", "9"], "--samples"),
        (["likelihood", PIXELS, "--steps", "9"], "--steps"),
        (["likelihood", PIXELS, "--samples", "9"], "--samples"),
        (["likelihood", GPT, "--num", "9"], "--num"),
        (["likelihood", GPT, "--unconditional"], "--unconditional"),
        (["likelihood", GPT, "a.txt", "--split", "val"], "--split"),
        (["sample", GPT, "--sampler-option", "churn=1"], "--sampler-option"),
        (["sample", GPT, "--guidance", "0"], "--guidance"),
        (["sample", "zoo/mnist-gan", "--realness", "--sign", "x.pem"], "--sign"),
        (["interpolate", VAE, "3", "8", "--num", "2"], "--num"),
        (["edit", VAE, "--set", "a=1", "--image", "test/0", "--num", "2"], "--num"),
        (["reconstruct", VAE, "test/0", "--num", "2"], "--num"),
        (["denoise", VAE, "test/0", "--num", "2"], "--num"),
        (["anomalies", VAE, "digits", "--score", "codes", "--samples", "2"], "--samples"),
        (["compare", VAE, "--csv", "--num", "2"], "--num"),
        (["compare", GPT, "--out", "a.png"], "--out"),
        (["compare", VAE, "--json", "--seed", "0"], "--seed"),
        (["compare", VAE, "--json", "--checkpoint", "last"], "--checkpoint"),
        (["push", VAE, "someone/vae", "--checkpoint", "last"], "--checkpoint"),
        (["likelihood", GPT, "--seed", "0"], "--seed"),
        (["interpolate", VAE, "3", "8", "--seed", "0"], "--seed"),
        (["anomalies", VAE, "digits", "--score", "codes", "--seed", "0"], "--seed"),
        (["classify", GPT, "--seed", "0"], "--seed"),
        (["export", VAE, "a.onnx", "--onnx", "--dtype", "bfloat16"], "--dtype"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_it_is_named_in_one_line(command: list[str], option: str, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command) == 2
    error = capsys.readouterr().err
    assert f"{option} has no effect" in error
    assert error.count("\n") == 1
    assert not any(workspace.iterdir())


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["interpolate", VAE, "99999999999999999999", "3"], "the seed 99999999999999999999 is out of range"),
        (["interpolate", VAE, "4294967296", "3"], "the seed 4294967296 is out of range"),
        (["directions", VAE, "--num", "3"], "use a larger --num"),
        (["explain", GPT, "--num", "1"], "use --num 4 or more"),
        (["memorisation", "zoo/digits-diffusion", "--num", "1"], "use 2 samples or more"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_numbers_that_are_too_small_or_too_large(
    command: list[str], words: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not any(workspace.iterdir())


def test_unknown_words_need_a_prompt(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", VAE, "--unknown-words"]) == 2
    assert "add --prompt TEXT" in capsys.readouterr().err


def test_a_vae_refuses_options_of_other_models(workspace: Path) -> None:
    import genai

    with pytest.raises(TypeError, match="no sampling option num_candidates"):
        genai.sample(VAE, 1, num_candidates=2)
