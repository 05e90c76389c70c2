"""`genai play` without a browser: which controls a model gets, and what each of them does."""

import socket
from itertools import pairwise
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from genai.cli import main
from genai.errors import UserError
from genai.models.seeds import image_seeds
from genai.report.play.actions import Cancelled, PlayableRun, Settings, half_mask, picture
from genai.report.play.drawing import digit, ink
from genai.report.play.text import PlayableText
from genai.runs import find, load


def playable(name: str) -> PlayableRun:
    return PlayableRun(find(name), name, load(name))


@pytest.fixture(scope="module")
def gan() -> PlayableRun:
    return playable("zoo/mnist-gan")


@pytest.fixture(scope="module")
def diffusion() -> PlayableRun:
    return playable("zoo/digits-diffusion")


def test_controls_follow_from_what_a_model_can_do(gan: PlayableRun, diffusion: PlayableRun) -> None:
    assert (gan.controls.condition, gan.controls.steps, gan.controls.guidance) == ("none", None, None)
    assert gan.controls.has_latents
    assert gan.controls.edits == ()
    assert gan.controls.classifies
    assert diffusion.controls.condition == "class"
    assert diffusion.controls.choices[3] == "3"
    assert diffusion.controls.steps == diffusion.model.sampling.steps
    assert diffusion.controls.edits == ("vary", "fill in")
    assert not diffusion.controls.has_latents


def test_samples_are_those_of_genai_sample(gan: PlayableRun) -> None:
    expected = np.asarray(picture(load("zoo/mnist-gan").sample(image_seeds(5, 4))), int)
    assert np.abs(np.asarray(gan.sample(5, 4, Settings())) - expected).max() <= 1


def test_a_label_and_the_number_of_steps_change_samples(diffusion: PlayableRun) -> None:
    assert diffusion.condition(Settings(label="7"), 2).tolist() == [7, 7]
    assert diffusion.condition(Settings(), 12).tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert diffusion.condition(Settings(), 2, is_edit=True).tolist() == [-1, -1]
    one, three = (np.asarray(diffusion.sample(0, 2, Settings(steps=steps))) for steps in (1, 3))
    assert not np.array_equal(one, three)


def test_sampling_shows_progress_and_can_be_cancelled(diffusion: PlayableRun) -> None:
    shares: list[float] = []
    diffusion.sample(0, 2, Settings(steps=4, guidance=1.0), shares.append)
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert 0.5 < shares[-1] < 1
    with pytest.raises(Cancelled):
        diffusion.sample(0, 2, Settings(steps=50), lambda share: diffusion.cancel())


def test_the_corners_of_the_pad_are_samples(gan: PlayableRun) -> None:
    x, y = torch.tensor([0.0, 1.0, 0.0, 1.0]), torch.tensor([0.0, 0.0, 1.0, 1.0])
    corners = gan.decode_at(3, x, y, Settings())
    assert torch.allclose(corners, gan.model.sample(image_seeds(3, 4)), atol=1e-5)
    ends = np.asarray(gan.interpolate(3, 4, 2, Settings()))
    assert ends.shape[1] > 1.8 * ends.shape[0]


def test_a_drawn_one_is_classified_as_a_one(gan: PlayableRun) -> None:
    strokes = np.zeros((280, 280), np.uint8)
    strokes[40:200, 30:50] = 255  # anywhere on the canvas
    image = digit(strokes, (1, 28, 28))
    assert image.shape == (1, 1, 28, 28)
    rows = np.flatnonzero(image[0, 0].amax(dim=1).numpy() > -1)
    assert len(rows) == 20
    centre = (image[0, 0] + 1).sum(dim=0) @ torch.arange(28.0) / (image + 1).sum()
    assert float(centre) == pytest.approx(13.5, abs=0.6)
    probabilities = gan.classify(image)
    assert max(probabilities, key=lambda name: probabilities[name]) == "1"


def test_edits_keep_what_they_must(diffusion: PlayableRun) -> None:
    strokes = np.zeros((64, 64), np.uint8)
    strokes[8:56, 28:36] = 255
    image = digit(strokes, (1, 8, 8))
    varied = diffusion.vary(image, 0, 0.0, Settings(), lambda share: None)
    assert np.array_equal(np.asarray(varied), np.asarray(picture(image.repeat(8, 1, 1, 1), 4)))
    mask = half_mask("top", 8)
    assert mask[0, 0, :4].all()
    assert not mask[0, 0, 4:].any()
    assert diffusion.fill_in(image, "top", 0, Settings(), lambda share: None).size == varied.size


@pytest.fixture(scope="module")
def writer() -> PlayableText:
    run = find("zoo/shakespeare-mingru")
    return PlayableText(run, run.name, load(run))


def test_a_text_grows_and_is_that_of_genai_sample(writer: PlayableText, capsys: pytest.CaptureFixture[str]) -> None:
    texts = list(writer.write("ROMEO:", 3, 24, 0.8, 0))
    assert all(longer.startswith(shorter) for shorter, longer in pairwise(texts))
    assert len(texts) > 5
    assert (
        main(
            ["sample", "zoo/shakespeare-mingru", "--seed", "3", "--prompt", "ROMEO:", "--tokens", "24", "--temperature", "0.8"]
        )
        == 0
    )
    assert capsys.readouterr().out == f"{texts[-1]}\n"


def test_a_text_can_be_cancelled_and_unknown_characters_are_a_users_mistake(writer: PlayableText) -> None:
    text = writer.write("", 0, 1000, 1.0, 5)
    next(text)
    writer.cancel()
    with pytest.raises(Cancelled):
        list(text)
    with pytest.raises(UserError, match="does not know the character"):
        list(writer.write("ï", 0, 4, 1.0, 0))


def test_an_empty_canvas_and_an_unknown_side_are_a_users_mistake() -> None:
    with pytest.raises(UserError):
        digit(np.zeros((10, 10), np.uint8), (1, 28, 28))
    with pytest.raises(UserError):
        ink([])
    with pytest.raises(UserError):
        half_mask("middle", 8)


@pytest.mark.slow
def test_a_taken_port_gets_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("gradio")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert main(["play", "zoo/mnist-gan", "--port", str(port)]) == 2
    error = capsys.readouterr().err
    assert f"port {port} is taken" in error
    assert len(error.splitlines()) == 1
    assert main(["play", "zoo/mnist-gan", "--port", "70000"]) == 2


def test_a_port_of_the_system_is_not_called_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    page = pytest.importorskip("genai.report.play.page")
    monkeypatch.setattr(page.socket.socket, "bind", Mock(side_effect=PermissionError))
    with pytest.raises(UserError, match="port 80 is reserved for the system"):
        page.check_port(80)
