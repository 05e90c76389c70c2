"""A text-conditional model is conditioned on the prompts, image by image."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from genai.cli import main
from genai.data.avatars import ATTRIBUTES, Avatars
from genai.data.avatars.captions import MAX_WORDS
from genai.data.words import decode, encode
from genai.images import to_float
from genai.metrics.classes import attribute_agreement
from genai.metrics.features import load_extractor
from genai.training.callbacks.evaluation import EvaluateSamples
from genai.training.callbacks.gallery import gallery_condition
from genai.training.record import label_record
from tests.encoding import Encoder, Speller, make_run

FACES = {"size": 8, "num_images": 200, "labels": "captions"}
WORDS = Avatars(**FACES).class_names
PROMPT = "a smiling face with red hair and round glasses"
OTHER = "a serious face with a hat"


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "faces/one", Avatars(**FACES), FACES, Speller)


@pytest.fixture(scope="module")
def attributes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    init_args = {**FACES, "labels": "attributes"}
    return make_run(tmp_path_factory.mktemp("runs") / "attributes/one", Avatars(**init_args), init_args, Encoder)


def sampled(run: Path, *arguments: str) -> tuple[list[str], np.ndarray]:
    """What the images of `genai sample` say, checked against the labels beside them, and their noise (N, ...)."""
    assert main(["sample", str(run), "--trust", "tests", "--out", "samples.npz", "--force", *arguments]) == 0
    arrays = np.load("samples.npz")
    pixels = arrays["images"].transpose(0, 3, 1, 2).reshape(len(arrays["images"]), -1)
    assert np.array_equal(pixels[:, :MAX_WORDS], arrays["labels"])
    return [decode(row, WORDS) for row in arrays["labels"]], pixels[:, MAX_WORDS:]


def refused(capsys: pytest.CaptureFixture[str], run: Path, *arguments: str) -> str:
    """The error message of `genai sample`, one line."""
    assert main(["sample", str(run), "--trust", "tests", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.mark.slow
def test_a_prompt_is_what_every_image_says(faces: Path, workspace: Path) -> None:
    said, noise = sampled(faces, "--prompt", PROMPT, "--num", "5")
    assert said == [PROMPT] * 5
    assert len(np.unique(noise, axis=0)) == 5
    assert sampled(faces, "--prompt", "", "--num", "2")[0] == ["", ""]


def test_each_line_of_a_file_is_a_row(faces: Path, workspace: Path) -> None:
    Path("prompts.txt").write_text(f"{PROMPT}\n\n  {OTHER.upper()}\n")
    assert sampled(faces, "--prompts", "prompts.txt")[0] == [PROMPT] * 8 + [OTHER] * 8
    said, noise = sampled(faces, "--prompts", "prompts.txt", "--per-label", "3")
    assert said == [PROMPT] * 3 + [OTHER] * 3
    assert len(np.unique(noise, axis=0)) == 6
    assert main(["sample", str(faces), "--trust", "tests", "--prompts", "prompts.txt", "--out", "grid.png"]) == 0
    grid = Image.open("grid.png")
    assert grid.text["Label"] == f"{PROMPT}\n{OTHER}"
    assert grid.width > 3 * grid.height


def test_the_same_noise_for_every_prompt_and_label(faces: Path, attributes: Path, workspace: Path) -> None:
    Path("prompts.txt").write_text(f"{PROMPT}\n{OTHER}\n")
    _, noise = sampled(faces, "--prompts", "prompts.txt", "--per-label", "3", "--same-noise")
    assert np.array_equal(noise[:3], noise[3:])
    assert len(np.unique(noise, axis=0)) == 3
    assert np.array_equal(noise[:3], sampled(faces, "--prompt", PROMPT, "--num", "3")[1])
    options = ["--label", "all", "--per-label", "2", "--same-noise", "--out", "all.npz"]
    assert main(["sample", str(attributes), "--trust", "tests", *options]) == 0
    assert len(np.unique(np.load("all.npz")["images"][:, -1, -1], axis=0)) == 2


def test_without_a_prompt_captions_of_training_images_are_used(faces: Path, workspace: Path) -> None:
    said, _ = sampled(faces, "--num", "70")
    captions = Avatars(**FACES).captions("train")
    assert said[64:] == said[:6]
    assert (said[0], said[63]) == (captions[0], captions[199])
    assert set(said) <= set(captions)


def test_an_image_says_its_prompt(faces: Path, workspace: Path) -> None:
    sample = ["sample", str(faces), "--trust", "tests", "--num", "2", "--out"]
    assert main([*sample, "folder/", "--prompt", PROMPT]) == 0
    assert Image.open("folder/00001.png").text["Label"] == PROMPT
    assert main([*sample, "grid.png", "--prompt", "a purple face", "--unknown-words"]) == 0
    assert Image.open("grid.png").text["Label"] == "a ? face"


def test_what_a_model_of_text_refuses(faces: Path, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty.txt").write_text("\n")
    unseen = refused(capsys, faces, "--prompt", "a face with glases")
    assert "'glases'" in unseen
    assert "did you mean glasses?" in unseen
    assert "--unknown-words" in unseen
    assert "at most 48 words" in refused(capsys, faces, "--prompt", "a " * 49)
    assert 'use --prompt "a ' in refused(capsys, faces, "--label", "glasses")
    assert "add --prompts FILE" in refused(capsys, faces, "--per-label", "3")
    assert "leave one of them out" in refused(capsys, faces, "--prompt", PROMPT, "--prompts", "empty.txt")
    assert "leave one of them out" in refused(capsys, faces, "--num", "3", "--prompts", "empty.txt")
    assert "add --per-label N" in refused(capsys, faces, "--prompt", PROMPT, "--same-noise")
    assert "is empty" in refused(capsys, faces, "--prompts", "empty.txt")
    assert "cannot be read" in refused(capsys, faces, "--prompts", "absent.txt")


def test_other_models_know_no_words(attributes: Path, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "use --label glasses,no-beard" in refused(capsys, attributes, "--prompt", PROMPT)
    assert "is unconditional" in refused(capsys, Path("zoo/mnist-gan"), "--prompt", PROMPT)
    assert "use --label 4" in refused(capsys, Path("zoo/mnist-cr3gan"), "--prompt", PROMPT)


def test_the_record_and_the_gallery_hold_captions(faces: Path) -> None:
    data = Avatars(**FACES)
    record = label_record(data)
    assert record == {key: json.loads((faces / "run.json").read_text())[key] for key in ("label_kind", "label_examples")}
    assert record["label_kind"] == "text"
    assert record["label_examples"][0] == encode(data.captions("train")[0], WORDS, MAX_WORDS)
    condition = gallery_condition(Speller(data.image_shape, data.num_classes), data, 55)
    assert condition is not None
    labels = torch.as_tensor(data.split("val").labels)
    assert torch.equal(condition, torch.cat([labels, labels[:5]]))


class Renderer(Speller):
    """Image i is the real face that its caption belongs to, so that every attribute is as described."""

    def generate(self, seeds: Sequence[int], condition: Tensor | None, **options: Any) -> Tensor:
        assert condition is not None
        val = Avatars(**FACES).split("val")
        matches = (torch.as_tensor(val.labels) == condition[:, None].cpu()).all(dim=2)  # (N, M)
        return to_float(torch.as_tensor(val.images)[matches.int().argmax(dim=1)])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass


def test_a_model_of_text_is_scored_by_the_attributes_of_its_captions(capsys: pytest.CaptureFixture[str]) -> None:
    data = Avatars(**FACES)
    callback = EvaluateSamples("avatars", num_samples=60)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "enable_checkpointing": False}
    trainer = L.Trainer(accelerator="cpu", callbacks=[callback], limit_val_batches=1, **quiet)
    trainer.validate(Renderer(data.image_shape, data.num_classes), datamodule=data, verbose=False)
    assert callback.latest_result is not None
    result = callback.latest_result
    seen, real = result.samples.attribute_agreement, result.real.attribute_agreement
    assert seen is not None
    assert real is not None
    assert result.class_names == ATTRIBUTES
    assert len(seen) == len(real) == len(ATTRIBUTES)
    network = load_extractor("avatars")
    val = data.split("val")
    logits = network(torch.as_tensor(val.images)).logits
    assert logits is not None
    labels = torch.as_tensor(data.attributes("val"))
    rows = torch.arange(60) % 50  # 60 samples of 50 captions
    assert seen == pytest.approx(attribute_agreement(logits[rows], labels[rows]))
    assert "lowest agreement of 16 attributes, compared with real images: " in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["cr3gan", "diffusion"])
def test_networks_that_take_no_words_refuse_captions(preset: str, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vector = "genai.networks.conditioning.VectorConditioner"
    options = ["--model.init_args.network.init_args.conditioner", vector] if preset == "diffusion" else []
    options += ["--data.init_args.labels", "captions", "--data.init_args.num_images", "200", "--tracker", "csv"]
    config = Path(__file__).parents[2] / f"configs/avatars/{preset}.yaml"
    assert main(["fit", "-c", str(config), *options, "--trainer.fast_dev_run", "2", "--trainer.accelerator", "cpu"]) == 2
    assert "the labels are words" in capsys.readouterr().err.splitlines()[-1]
