"""Under bf16-mixed, what needs float32 stays there: gradient penalties and preconditioning. Likelihoods: test_vae.py."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from genai.models.diffusion.diffusion import Diffusion
from genai.models.diffusion.preconditioning import EDM, Velocity
from genai.models.diffusion.weighting import denoising_loss
from genai.models.gan.objectives import AdversarialObjective, Relativistic, WassersteinGP
from genai.networks.mlp import MLPDiscriminator, MLPGenerator

SHAPE = (1, 8, 8)


@pytest.mark.parametrize("objective", [Relativistic(gamma=2.0), WassersteinGP()])
def test_penalties_are_those_of_float32(objective: AdversarialObjective) -> None:
    torch.manual_seed(0)
    generator, discriminator = MLPGenerator(SHAPE, hidden=[32]), MLPDiscriminator(SHAPE, hidden=[32], dropout=0)
    logits = lambda images: discriminator(images, None).float()  # noqa: E731
    real, z = torch.rand(64, *SHAPE) * 2 - 1, torch.randn(64, generator.latent_dim)
    losses = []
    for bf16 in (False, True):
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            fake = generator(z, None)
            losses.append(objective.discriminator_loss(logits, real, fake, 0))
    assert fake.dtype == torch.bfloat16
    assert losses[1].dtype == torch.float32
    torch.testing.assert_close(losses[1], losses[0], rtol=0.05, atol=0.02)
    assert losses[1].unique().numel() > 48  # not rounded to bfloat16's 256 values a power of two


def test_a_penalty_is_summed_in_float32() -> None:
    """A thousand pixels, each adding 2^-10 to the squared norm of 1: bfloat16 would stop adding half-way."""
    weight = torch.full((1024,), 2.0**-5)
    images = torch.zeros(1, 1, 32, 32, dtype=torch.bfloat16)
    logits = lambda x: (x.flatten(1) @ weight).float()  # noqa: E731
    with torch.autocast("cpu", torch.bfloat16):
        loss = Relativistic(gamma=1.0).discriminator_loss(logits, images, images, 0)
    assert loss.item() - math.log(2) == pytest.approx(1.0, rel=1e-5)


class Rounded(nn.Module):
    """A network whose output is bfloat16 noughts; keeps its input."""

    def __init__(self, shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(
        self, x: Tensor, c_noise: Tensor, condition: Tensor | None = None, conditioning_image: Tensor | None = None
    ) -> Tensor:
        self.seen = x, c_noise
        return torch.zeros_like(x, dtype=torch.bfloat16)


@pytest.mark.parametrize("preconditioning", [EDM(0.5), Velocity()])
def test_preconditioning_is_float32(preconditioning: EDM | Velocity) -> None:
    """c_skip x is exact beside a network that computes in bfloat16."""
    model = Diffusion(SHAPE, 0, partial(Rounded), preconditioning=preconditioning)
    x, sigma = torch.randn(4, *SHAPE), torch.tensor([0.002, 0.3, 1.0, 80.0])
    with torch.autocast("cpu", torch.bfloat16):
        denoise = model.denoiser(model.network, None)
        denoised = denoise(x, sigma)
        loss = denoising_loss(denoise, x, sigma, torch.randn_like(x), torch.ones(4))
    assert torch.equal(denoised, preconditioning(sigma).c_skip[:, None, None, None] * x)
    assert {part.dtype for part in model.network.seen} == {torch.float32}
    assert loss.dtype == torch.float32
