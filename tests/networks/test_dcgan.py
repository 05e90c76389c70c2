import pytest
import torch

from genai.errors import UserError
from genai.networks.dcgan import DCGANDiscriminator, DCGANGenerator, stages


@pytest.mark.parametrize(("size", "expected"), [(8, (4, 1)), (28, (7, 2)), (32, (4, 3)), (64, (4, 4))])
def test_stages(size: int, expected: tuple[int, int]) -> None:
    assert stages(size) == expected


def test_an_odd_size_names_the_fix() -> None:
    with pytest.raises(UserError, match="not 30: set the data's size"):
        DCGANGenerator((1, 30, 30))


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64)])
@pytest.mark.parametrize("num_classes", [0, 10])
def test_shapes(shape: tuple[int, int, int], num_classes: int) -> None:
    generator = DCGANGenerator(shape, num_classes, latent_dim=5, width=8)
    discriminator = DCGANDiscriminator(shape, num_classes, width=8)
    condition = torch.eye(10)[:3] if num_classes else None
    images = generator(torch.randn(3, 5), condition)
    assert images.shape == (3, *shape)
    assert images.abs().max() <= 1
    assert discriminator(images, condition).shape == (3,)


def test_the_condition_reaches_the_logit() -> None:
    discriminator = DCGANDiscriminator((1, 28, 28), 10, width=8).eval()
    x = torch.zeros(2, 1, 28, 28)
    logits = discriminator(x, torch.eye(10)[:2])
    assert logits[0] != logits[1]
