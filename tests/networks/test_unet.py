"""Denoisers: shapes, conditions of every form, attention that leaves padding alone."""

from functools import partial

import pytest
import torch
from torch import nn

from genai.errors import UserError
from genai.networks.attention import Attention
from genai.networks.conditioning import TextConditioner
from genai.networks.dit import DiT
from genai.networks.unet import UNet

unet = partial(UNet, channels=[16, 32], num_blocks=1, embedding_dim=32, head_dim=16)
dit = partial(DiT, dim=32, depth=2, num_heads=2, embedding_dim=32)


def randomised(network: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in network.parameters():
        parameter.data.normal_(0, 0.2)
    return network.eval()


@pytest.mark.parametrize("factory", [unet, dit])
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32)])
@pytest.mark.parametrize("patch_size", [1, 2])
def test_networks_keep_the_shape_and_begin_at_zero(factory, shape, patch_size: int) -> None:
    network = factory(shape, 5, patch_size=patch_size, conditioning_channels=2)
    x = torch.randn(2, *shape)
    image = torch.randn(2, 2, *shape[1:])
    out = network(x, torch.randn(2), torch.zeros(2, 5), image)
    assert out.shape == x.shape
    assert float(out.abs().max()) == 0


@pytest.mark.parametrize("factory", [unet, dit])
def test_class_noise_and_conditioning_image_all_matter(factory) -> None:
    network = randomised(factory((1, 8, 8), 3, conditioning_channels=2))
    x, t, c, b = torch.randn(1, 1, 8, 8), torch.zeros(1), torch.eye(3)[:1], torch.zeros(1, 2, 8, 8)
    out = network(x, t, c, b)
    for other in (
        network(x, t + 1, c, b),
        network(x, t, torch.eye(3)[1:2], b),
        network(x, t, c, b + 1),
        network(x, t, 0 * c, b),
    ):
        assert not torch.allclose(out, other)


@pytest.mark.parametrize("factory", [unet, dit])
def test_words_matter_and_their_padding_does_not(factory) -> None:
    network = randomised(factory((1, 8, 8), 20, conditioner=TextConditioner))
    x, t = torch.randn(1, 1, 8, 8), torch.zeros(1)
    said = network(x, t, torch.tensor([[4, 7, 9]]))
    torch.testing.assert_close(said, network(x, t, torch.tensor([[4, 7, 9, 0, 0]])))
    assert not torch.allclose(said, network(x, t, torch.tensor([[4, 9, 7]])))  # the order of the words counts
    assert bool(network(x, t, torch.zeros(1, 3, dtype=torch.long)).isfinite().all())


def test_attention_on_its_context_is_a_weighted_mean() -> None:
    """With keys of zero every token counts the same."""
    attention = Attention(4, 2, context_dim=3)
    for layer in (attention.qkv, attention.context):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    attention.qkv.bias.data[8:] = 1.0  # values of x
    attention.context.bias.data[4:] = 4.0  # values of the context
    attention.project.weight.data = torch.eye(4)
    x, context = torch.randn(1, 2, 4), torch.randn(1, 2, 3)
    seen = attention(x, context, torch.tensor([[True, False]]))
    torch.testing.assert_close(seen, torch.full((1, 2, 4), 2.0))  # (1 + 1 + 4) / 3


def test_a_size_that_cannot_be_halved_is_refused() -> None:
    with pytest.raises(UserError, match="multiple of 8"):
        UNet((1, 28, 28), channels=[16, 16, 16], patch_size=2)
