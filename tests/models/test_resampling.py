"""Discriminator resampling, checked where the optimal logit has a closed form."""

import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genai.errors import UserError
from genai.models.gan.gan import GAN
from genai.models.gan.resampling import Resampling
from genai.networks.dcgan import DCGANDiscriminator
from genai.networks.mlp import MLPGenerator

MEAN, DEVIATION = 1.0, 0.5  # of real images, one pixel; generated ones are standard normal


class Normal(nn.Module):
    """A generator whose image is z."""

    latent_dim = 1

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, z: Tensor, condition: Tensor | None) -> Tensor:
        return (self.scale * z)[:, :, None, None]


class Optimal(nn.Module):
    """The optimal discriminator ln p(x) - ln q(x), times a factor, plus a constant that has no effect."""

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        real = torch.distributions.Normal(MEAN, DEVIATION).log_prob(x.flatten())
        return self.factor * (real - torch.distributions.Normal(0.0, 1.0).log_prob(x.flatten())) - 20


def gan(resampling: Resampling | None, factor: float = 1.0) -> GAN:
    return GAN((1, 1, 1), 0, Normal, partial(Optimal, factor=factor), resampling=resampling).eval()


def test_a_candidate_is_chosen_with_its_probability() -> None:
    logits = torch.log(torch.tensor([0.1, 0.6, 0.0, 0.3])).expand(1000, -1) + 7
    chosen = Resampling(4).choose(logits, (torch.arange(1000) + 0.5) / 1000)
    assert torch.bincount(chosen, minlength=4).tolist() == [100, 600, 0, 300]
    assert Resampling(4).choose(logits[:2], torch.tensor([0.0, 1.0])).tolist() == [0, 3]
    sharp = Resampling(4, sharpness=2.0).choose(logits, (torch.arange(1000) + 0.5) / 1000)
    assert torch.bincount(sharp, minlength=4).tolist() == pytest.approx(
        [1000 * s / 0.46 for s in (0.01, 0.36, 0.0, 0.09)], abs=1
    )


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1.0, 0.25])
def test_the_optimal_discriminator_gives_the_distribution_of_the_data(factor: float) -> None:
    plain, kept = (gan(r, factor).sample(range(4000)) for r in (None, Resampling(64, sharpness=1 / factor)))
    assert abs(plain.mean().item()) < 0.06
    assert kept.mean().item() == pytest.approx(MEAN, abs=0.05)
    assert kept.std().item() == pytest.approx(DEVIATION, abs=0.03)


def test_one_candidate_is_the_image_of_the_seed_and_no_other_seed_matters() -> None:
    assert torch.equal(gan(Resampling(1)).sample(range(9)), gan(None).sample(range(9)))
    model = gan(Resampling(8))
    assert torch.equal(model.sample([5, 3, 900]), model.sample(range(901))[[5, 3, 900]])


def test_the_discriminator_is_exported_with_resampling() -> None:
    assert list(gan(None).export_state()) == ["scale"]
    model, twin = gan(Resampling(8), 3.0), gan(Resampling(8), -1.0)
    assert not torch.equal(twin.sample(range(20)), model.sample(range(20)))
    state = copy.deepcopy(model.export_state())
    twin.import_state(state)
    assert torch.equal(twin.sample(range(20)), model.sample(range(20)))
    gan(None).import_state(state)
    with pytest.raises(UserError, match="no discriminator"):
        model.import_state({"scale": state["scale"]})


def test_the_number_of_candidates_is_a_sampling_option() -> None:
    model, state = gan(None), gan(None).export_state()
    assert torch.equal(model.sample(range(9), num_candidates=8), gan(Resampling(8)).sample(range(9)))
    assert torch.equal(gan(Resampling(8, 2.0)).sample(range(9), num_candidates=4), gan(Resampling(4, 2.0)).sample(range(9)))
    assert torch.equal(gan(Resampling(8)).sample(range(9), num_candidates=1), model.sample(range(9)))
    model.import_state(state)
    with pytest.raises(UserError, match="no discriminator to choose among candidates"):
        model.sample(range(2), num_candidates=2)


def test_exported_weights_score_no_realness() -> None:
    model = gan(None)
    images = model.sample(range(3))
    assert model.realness(images).shape == (3,)
    model.import_state(gan(None).export_state())
    with pytest.raises(UserError, match="no discriminator to score realness"):
        model.realness(images)


@pytest.mark.parametrize("options", [{"num_candidates": 0}, {"num_candidates": 2, "sharpness": -1.0}])
def test_invalid_settings_are_refused(options: Any) -> None:
    with pytest.raises(UserError, match="is out of range: use"):
        Resampling(**options)


def test_sampling_leaves_the_discriminator_as_it_was() -> None:
    """Batch normalisation neither reads nor changes the statistics of the samples, in a fit's gallery too."""
    torch.manual_seed(0)
    discriminator = partial(DCGANDiscriminator, width=8, normalisation="batch")
    model = GAN((1, 8, 8), 0, MLPGenerator, discriminator, resampling=Resampling(4)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    mode = {name: part.training for name, part in model.named_modules()}
    first = model.sample(range(8))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert {name: part.training for name, part in model.named_modules()} == mode
    assert torch.equal(first, model.eval().sample(range(8)))
