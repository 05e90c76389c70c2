import math
from functools import partial

import torch

from genai.models.gan.gan import GAN
from genai.models.gan.objectives import NonSaturating
from genai.models.schedules import Cosine
from genai.networks.mlp import MLPDiscriminator, MLPGenerator


def mlp_gan(conditional: bool = False) -> GAN:
    torch.manual_seed(0)
    return GAN((1, 28, 28), 10, MLPGenerator, MLPDiscriminator, conditional=conditional).eval()


def test_the_networks_are_those_of_the_lectures() -> None:
    model = mlp_gan()
    widths = [layer.out_features for layer in model.generator.modules() if isinstance(layer, torch.nn.Linear)]
    assert widths == [256, 512, 1024, 784]
    widths = [layer.out_features for layer in model.discriminator.modules() if isinstance(layer, torch.nn.Linear)]
    assert widths == [1024, 512, 256, 1]
    assert model.latent_dim == 10
    assert sum(p.numel() for p in model.generator.parameters()) == 10 * 256 + 256 * 512 + 512 * 1024 + 1024 * 784 + 2576


def test_sampling_uses_the_averaged_generator_only() -> None:
    model = mlp_gan()
    before = model.sample(range(4))
    with torch.no_grad():
        for parameter in model.generator.parameters():
            parameter.zero_()
    assert torch.equal(model.sample(range(4)), before)
    assert before.shape == (4, 1, 28, 28)
    assert before.abs().max() <= 1


def test_the_first_eight_of_sixty_four_are_the_same_to_the_last_bit() -> None:
    model = mlp_gan()
    assert torch.equal(model.sample(range(8)), model.sample(range(64))[:8])


def test_a_conditional_gan_gives_the_label_to_both_networks() -> None:
    model = mlp_gan(conditional=True)
    four, nine = (model.sample([0], torch.tensor([label])) for label in (4, 9))
    assert not torch.equal(four, nine)
    condition = model.condition(torch.tensor([4]))
    assert not torch.equal(model.belief(four, condition), model.belief(four, model.condition(torch.tensor([9]))))


def test_non_saturating_losses_in_closed_form() -> None:
    """At logits 0 both beliefs are 1/2: the discriminator loses 2 ln 2, the generator ln 2."""
    images = torch.zeros(3, 1, 2, 2)
    objective = NonSaturating()
    blind = partial(torch.Tensor.sum, dim=(1, 2, 3))
    torch.testing.assert_close(objective.discriminator_loss(blind, images, images), torch.full((3,), 2 * math.log(2)))
    torch.testing.assert_close(objective.generator_loss(blind, images, images), torch.full((3,), math.log(2)))


def test_the_generators_gradient_does_not_vanish_when_the_discriminator_is_sure() -> None:
    fake = torch.full((1, 1, 1, 1), -20.0, requires_grad=True)
    NonSaturating().generator_loss(partial(torch.Tensor.sum, dim=(1, 2, 3)), fake, fake).sum().backward()
    torch.testing.assert_close(fake.grad, torch.full((1, 1, 1, 1), -1.0))


def test_cosine_schedule() -> None:
    schedule = Cosine(kimg=10, start=1.0, end=0.2)
    assert schedule(0) == 1.0
    assert abs(schedule(5_000) - 0.6) < 1e-12
    assert schedule(10_000) == schedule(99_000) == 0.2
