from typing import Literal

import pytest
import torch
from torch import nn

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


def weights(discriminator: DCGANDiscriminator) -> list[torch.Tensor]:
    """Every convolution's and linear layer's weight, as the matrix (out, in * height * width) of spectral normalisation."""
    return [layer.weight.detach().flatten(1) for layer in discriminator.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


def test_spectral_normalisation_bounds_every_weight_by_1() -> None:
    torch.manual_seed(0)
    discriminator = DCGANDiscriminator((3, 32, 32), num_classes=10, width=8, normalisation="spectral")
    for layer in discriminator.layers:
        if isinstance(layer, nn.Conv2d | nn.Linear):  # far from 1, and from the initialisation's other power iterations
            layer.parametrizations.weight.original.data.mul_(300)
    x, condition = torch.randn(2, 3, 32, 32), torch.eye(10)[:2]
    for _ in range(300):
        discriminator(x, condition)
    largest = [torch.linalg.matrix_norm(weight, ord=2).item() for weight in weights(discriminator.eval())]
    assert len(largest) == 4
    assert max(largest) <= 1 + 1e-3
    assert min(largest) > 0.9  # divided by its norm, not just small


def test_a_spectral_discriminator_is_lipschitz() -> None:
    """Layers of norm 1 and leaky ReLUs; a 4x4 convolution with stride 2 reads each pixel four times: at most 2 a layer."""
    torch.manual_seed(0)
    discriminator = DCGANDiscriminator((1, 8, 8), width=8, normalisation="spectral")
    for _ in range(100):
        discriminator(torch.randn(1, 1, 8, 8))
    x = torch.randn(50, 1, 8, 8, requires_grad=True)
    discriminator.eval()(x).sum().backward()
    assert x.grad is not None
    assert 0 < x.grad.flatten(1).norm(dim=1).max() <= 2 * (1 + 1e-3)


def kinds(discriminator: DCGANDiscriminator) -> set[str]:
    return {type(module).__name__ for module in discriminator.modules()}


def test_only_batch_normalisation_has_batch_norm() -> None:
    shape = (1, 28, 28)
    assert "BatchNorm2d" in kinds(DCGANDiscriminator(shape, width=8))
    for normalisation in ("spectral", "none"):
        discriminator = DCGANDiscriminator(shape, width=8, normalisation=normalisation)
        assert not [kind for kind in kinds(discriminator) if "Norm" in kind and "Spectral" not in kind]
    assert max(torch.linalg.matrix_norm(weight, ord=2) for weight in weights(discriminator)) != pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("normalisation", ["spectral", "none"])
def test_without_batch_statistics_a_logit_depends_on_its_own_image_alone(normalisation: Literal["spectral", "none"]) -> None:
    """A gradient penalty is on each image's own gradient, so no image may enter another's logit."""
    torch.manual_seed(0)
    discriminator = DCGANDiscriminator((1, 28, 28), width=8, normalisation=normalisation)
    x = torch.randn(4, 1, 28, 28, requires_grad=True)
    discriminator(x)[0].backward()
    assert x.grad is not None
    assert (x.grad[0] != 0).any()
    assert (x.grad[1:] == 0).all()


@pytest.mark.parametrize("normalisation", ["batch", "spectral", "none"])
def test_each_map_has_num_convolutions_3x3_convolutions(normalisation: Literal["batch", "spectral", "none"]) -> None:
    """28 pixels are generated from maps of 7 and 14, and processed in maps of 14 and 7."""
    generator = DCGANGenerator((1, 28, 28), latent_dim=5, width=8, num_convolutions=2)
    discriminator = DCGANDiscriminator((1, 28, 28), width=8, normalisation=normalisation, num_convolutions=2)
    for network in (generator, discriminator):
        kernels = [layer.kernel_size for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
        assert kernels.count((3, 3)) == 4
        assert kernels.count((4, 4)) == 2
    images = generator(torch.randn(3, 5))
    assert images.shape == (3, 1, 28, 28)
    assert discriminator(images).shape == (3,)
