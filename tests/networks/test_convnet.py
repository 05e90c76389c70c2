import pytest
import torch
from torch import nn

from genai.networks.convnet import ConvNet

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 28, 28), (1, 32, 32), (3, 32, 32), (3, 64, 64), (1, 31, 17)]


@pytest.mark.parametrize("image_shape", SHAPES, ids=str)
def test_features_and_logits_of_every_image_shape(image_shape: tuple[int, int, int]) -> None:
    network = ConvNet(image_shape, num_classes=7, channels=(8, 16, 24), stem_stride=2).eval()
    images = torch.rand(5, *image_shape) * 2 - 1
    assert network.features(images).shape == (5, network.feature_dim) == (5, 24)
    assert network(images).shape == (5, 7)


def test_logits_are_linear_in_the_features() -> None:
    network = ConvNet((3, 32, 32), num_classes=10).eval()
    images = torch.rand(4, 3, 32, 32)
    linear = nn.functional.linear(network.features(images), network.logits.weight, network.logits.bias)
    torch.testing.assert_close(network(images), linear)


def test_every_pixel_matters() -> None:
    network = ConvNet((1, 28, 28), num_classes=10).eval()
    images = torch.rand(2, 1, 28, 28, requires_grad=True)
    network.features(images).sum().backward()
    assert images.grad is not None
    assert (images.grad != 0).float().mean() > 0.99


@pytest.mark.parametrize("stem_stride", [1, 2])
def test_the_stem_and_each_further_stage_halve_the_resolution(stem_stride: int) -> None:
    network = ConvNet((1, 64, 64), num_classes=2, channels=(4, 8, 16), stem_stride=stem_stride).eval()
    coarsest = network.stages(torch.zeros(1, 1, 64, 64))
    assert coarsest.shape == (1, 16, 16 // stem_stride, 16 // stem_stride)


def test_an_image_is_scored_alike_in_any_batch_and_memory_format() -> None:
    network = ConvNet((3, 28, 28), num_classes=10).eval()
    images = torch.rand(6, 3, 28, 28)
    together = network.features(images)
    torch.testing.assert_close(network.features(images[2:3]), together[2:3], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network.features(images.to(memory_format=torch.channels_last)), together)
