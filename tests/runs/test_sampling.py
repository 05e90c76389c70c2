"""genai.sample: images of a run or a model in one call."""

import numpy as np
import pytest
import torch

import genai
from genai.cli import main
from genai.errors import UserError
from genai.images import to_uint8
from genai.models.base import ImageModel
from genai.models.seeds import image_seeds
from genai.runs import find
from genai.runs.sampling import label_examples

RUN = "zoo/digits-diffusion"


def test_images_are_those_of_the_verb(workspace) -> None:
    assert main(["sample", RUN, "--num", "4", "--steps", "4", "--out", "four.npz"]) == 0
    images = to_uint8(genai.sample(RUN, num=4, steps=4)).numpy()
    assert np.array_equal(np.load("four.npz")["images"].reshape(images.shape), images)


def test_a_label_is_a_number_a_name_or_one_for_each_image() -> None:
    model = genai.load(RUN)
    expected = model.sample(image_seeds(0, 3), torch.tensor([3, 3, 3]), steps=2)
    for label in (3, "3", [3, 3, 3], torch.tensor([3, 3, 3])):
        assert torch.equal(genai.sample(RUN, num=3, label=label, steps=2), expected)
    assert torch.equal(genai.sample(model, num=3, label=3, steps=2), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "ten"}, "there is no class 'ten'"),
        ({"label": 10}, "classes 0 to 9"),
        ({"label": [1, 2]}, "one label for each image"),
    ],
)
def test_a_wrong_label_is_refused(options, message) -> None:
    with pytest.raises(UserError, match=message):
        genai.sample(RUN, num=3, **options)


def test_an_unconditional_model_takes_no_label() -> None:
    with pytest.raises(UserError, match="unconditional"):
        genai.sample("zoo/mnist-gan", num=2, label=3)


def test_attributes_without_a_label_are_those_of_training_images(monkeypatch: pytest.MonkeyPatch) -> None:
    conditions: list[torch.Tensor] = []
    monkeypatch.setattr(ImageModel, "sample", lambda self, seeds, condition: conditions.append(condition))
    genai.sample("zoo/avatars-cr3gan", num=3)
    assert torch.equal(conditions[0], label_examples(find("zoo/avatars-cr3gan"))[:3].float())


@pytest.mark.parametrize(
    ("name", "label"), [("avatars-cr3gan", "smile"), ("avatars-cr3gan", 3), ("avatars-diffusion", "smiling")]
)
def test_a_class_is_no_label_of_attributes_or_captions(name: str, label: int | str) -> None:
    with pytest.raises(UserError, match="has no classes: give `label` as"):
        genai.sample(f"zoo/{name}", num=2, label=label)


def test_a_model_without_its_run_needs_a_label_and_a_text_model_is_named() -> None:
    with pytest.raises(UserError, match="give `label`, such as a class number, or name the run"):
        genai.sample(genai.load(RUN), num=2)
    with pytest.raises(UserError, match="generates no images"):
        genai.sample(genai.load("zoo/shakespeare-mingru"), num=2)
