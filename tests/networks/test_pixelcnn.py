"""Masked convolutions over tokens: no look ahead, every earlier neighbour is seen, a cache that changes nothing."""

from functools import partial

import pytest
import torch
from torch import nn

from genai.errors import UserError
from genai.networks.pixelcnn import MaskedConvolution, PixelCNN
from genai.networks.transformer import Cache

tiny = partial(PixelCNN, width=4, dim=12, depth=2, rows=1, columns=1)


def randomised(network: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in network.parameters():
        parameter.data.normal_(0, 0.3)
    return network.eval()


@torch.no_grad()
def test_a_cache_changes_no_logits() -> None:
    network = randomised(tiny(5, 12, 3))
    tokens, condition, cache = torch.randint(5, (4, 11)), torch.eye(3)[[0, 1, 2, 0]], Cache()
    whole = network(tokens, condition)
    parts = [network(tokens[:, max(i - 1, 0) : i], condition, cache) for i in range(12)]
    assert whole.shape == (4, 12, 5)
    assert cache.length == 12
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("at", [0, 4, 10])
def test_a_token_changes_nothing_before_it(at: int) -> None:
    network = randomised(tiny(5, 12))
    tokens = torch.randint(5, (1, 11))
    changed = tokens.clone()
    changed[0, at] = (tokens[0, at] + 1) % 5
    one, other = network(tokens), network(changed)
    assert torch.equal(one[:, : at + 1], other[:, : at + 1])
    assert not torch.allclose(one[:, at + 1], other[:, at + 1])


@pytest.mark.parametrize(("sees_itself", "is_depthwise"), [(False, False), (True, True)])
def test_a_position_sees_the_rows_above_and_the_left(sees_itself: bool, is_depthwise: bool) -> None:
    convolution = randomised(MaskedConvolution(3, 3, 2, 1, sees_itself, is_depthwise))
    x = torch.randn(1, 5, 5, 3, requires_grad=True)
    convolution(x)[0, 3, 2].sum().backward()
    seen = {(int(r), int(c)) for _, r, c in x.grad.abs().sum(dim=-1).nonzero()}
    above = {(row, column) for row in (1, 2) for column in (1, 2, 3)}
    assert seen == above | {(3, 1)} | ({(3, 2)} if sees_itself else set())


def test_the_condition_matters_and_zeros_are_none() -> None:
    network = randomised(tiny(5, 12, 3))
    tokens, condition = torch.randint(5, (1, 3)), torch.eye(3)[:1]
    assert not torch.allclose(network(tokens, condition), network(tokens, torch.eye(3)[1:2]))
    assert torch.equal(network(tokens, torch.zeros(1, 3)), network(tokens))


def test_a_width_that_does_not_divide_the_image_is_refused() -> None:
    with pytest.raises(UserError, match="width 5 does not divide the 12 tokens"):
        PixelCNN(5, 12, width=5)
