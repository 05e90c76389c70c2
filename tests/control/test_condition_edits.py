"""Edits of classes, attributes and captions, and the noise of a diffusion model as a space of edits."""

import pytest
import torch

import genai
from genai.control.condition_edits import edited_condition
from genai.control.inversion import invert
from genai.control.spaces import edit_space
from genai.errors import UserError

WORDS = ("", "?", "a", ",", "face", "hat")


def test_each_kind_of_condition_changes_as_asked() -> None:
    assert edited_condition(torch.tensor([3, 1]), "two", 1, ("one", "two"), "class").tolist() == [1, 1]
    attributes = torch.tensor([[1.0, 0.0, 0.2]])
    found = edited_condition(attributes, "b", 0.5, ("a", "b", "c"), "attributes", [("a", "b")])
    assert torch.allclose(found, torch.tensor([[0.5, 0.5, 0.2]]))
    assert edited_condition(attributes, "a", -1, ("a", "b", "c"), "attributes").tolist()[0][0] == 0
    captions = torch.tensor([[2, 4, 0, 0, 0], [2, 4, 3, 5, 0]])
    with_hat = edited_condition(captions, "hat", 1, WORDS, "text")
    assert with_hat.tolist() == [[2, 4, 3, 5, 0], [2, 4, 3, 5, 0]]
    assert edited_condition(captions, "hat", -1, WORDS, "text").tolist() == [[2, 4, 0, 0, 0], [2, 4, 3, 0, 0]]


@pytest.mark.parametrize(
    ("condition", "name", "step", "kind", "words"),
    [
        (torch.tensor([1]), "five", 1, "class", "the condition has no 'five'"),
        (torch.tensor([1]), "face", -1, "class", "the step should be 1"),
        (torch.tensor([[2, 4]]), "hat", 0.5, "text", "leaves it out"),
        (torch.tensor([[2, 4]]), "hat", 1, "text", "no room for another"),
    ],
)
def test_other_edits_are_refused(condition: torch.Tensor, name: str, step: float, kind: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        edited_condition(condition, name, step, WORDS, kind)


def test_the_noise_of_a_diffusion_model_is_a_space_of_edits() -> None:
    space = edit_space(genai.load("zoo/digits-diffusion"))
    points = space.points(range(4), torch.arange(4))
    images = space.decode(points)
    assert space.name == "noise"
    assert torch.allclose(images, space.model.sample(range(4), torch.arange(4)), atol=1e-5)
    inverted = invert(space, images, points, torch.arange(4))
    assert inverted.rmse.max() < 0.2
