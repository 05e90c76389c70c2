from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from genai.models.base import ImageModel
from genai.models.conditions import condition_vector
from genai.models.seeds import image_seeds, seeded_normal


class Echo(ImageModel):
    """Returns its noise, shifted by the class, so the condition can be read from the image."""

    def __init__(self, conditional: bool = False) -> None:
        super().__init__((1, 2, 2), 10)
        self.conditional = conditional

    def generate(self, seeds: Sequence[int], condition: Tensor | None, **options: Any) -> Tensor:
        noise = seeded_normal(seeds, (1, 2, 2), self.device) / 100
        return noise if condition is None else noise + condition.view(-1, 1, 1, 1)


def test_an_image_depends_on_its_own_seed_only() -> None:
    model = Echo()
    many = model.sample(range(130))
    assert torch.equal(model.sample(range(8)), many[:8])
    assert torch.equal(model.sample([77, 5]), many[[77, 5]])
    assert len(torch.unique(many[:, 0, 0, 0])) == 130


def test_conditions_follow_their_images_across_chunks() -> None:
    labels = torch.arange(100) % 10
    images = Echo(conditional=True).sample(range(100), labels)
    assert torch.equal(images.mean((1, 2, 3)).round().long(), labels)


def test_no_seeds_give_no_images() -> None:
    assert Echo().sample([]).shape == (0, 1, 2, 2)


def test_a_condition_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="give a condition"):
        Echo(conditional=True).sample([0])
    with pytest.raises(ValueError, match="takes no condition"):
        Echo().sample([0], torch.tensor([1]))
    with pytest.raises(ValueError, match="2 seeds but 1"):
        Echo(conditional=True).sample([0, 1], torch.tensor([1]))


def test_user_seeds_share_no_image_seed() -> None:
    assert not set(image_seeds(0, 1000)) & set(image_seeds(1, 1000))
    assert image_seeds(3, 8) == image_seeds(3, 64)[:8]


def test_condition_vectors() -> None:
    assert condition_vector(torch.tensor([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]
    attributes = torch.tensor([[1.0, 0.0, 1.0]])
    assert torch.equal(condition_vector(attributes, 3), attributes)
