"""The causal transformer: no look ahead, a cache that changes nothing, conditions, and a distribution it learns."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from genai.errors import UserError
from genai.networks.transformer import Cache, Rotation, Transformer, attend, rotated, rotation_of

POSITIONS = ["learned", "rotary"]
tiny = partial(Transformer, dim=32, depth=2, num_heads=2)


def randomised(network: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in network.parameters():
        parameter.data.normal_(0, 0.3)
    return network.eval()


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("steps", [[0, 1, 1, 1, 1, 1], [0, 5], [3, 2], [2, 1, 2]])
@torch.no_grad()
def test_a_cache_changes_no_logits(positions: str, steps: list[int]) -> None:
    network = randomised(tiny(11, 6, 3, positions=positions))
    tokens, condition = torch.randint(11, (4, 5)), torch.eye(3)[[0, 1, 2, 0]]
    whole = network(tokens, condition)
    cache, parts, seen = Cache(), [], 0
    for step in steps:
        parts.append(network(tokens[:, seen : seen + step], condition, cache))
        seen += step
    assert whole.shape == (4, 6, 11)
    assert cache.length == 6
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("positions", POSITIONS)
def test_no_position_sees_later_ones(positions: str) -> None:
    network = randomised(tiny(11, 6, positions=positions))
    tokens = torch.randint(11, (1, 6))
    changed = tokens.clone()
    changed[0, 3] = (tokens[0, 3] + 1) % 11
    one, other = network(tokens), network(changed)
    torch.testing.assert_close(one[:, :4], other[:, :4])
    assert not torch.allclose(one[:, 4:], other[:, 4:])


@pytest.mark.parametrize("positions", POSITIONS)
def test_order_and_condition_matter(positions: str) -> None:
    network = randomised(tiny(11, 6, 3, positions=positions))
    tokens, condition = torch.tensor([[1, 2, 3]]), torch.eye(3)[:1]
    logits = network(tokens, condition)
    assert not torch.allclose(logits[:, -1], network(torch.tensor([[2, 1, 3]]), condition)[:, -1])
    assert not torch.allclose(logits[:, 0], network(tokens, torch.eye(3)[1:2])[:, 0])
    assert torch.equal(network(tokens, torch.zeros(1, 3)), network(tokens))  # the null condition


def test_rotary_scores_depend_on_the_distance_only() -> None:
    torch.manual_seed(0)
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def at(position: int) -> Rotation:
        return rotation_of(position, position + 1, 8, q)

    scores = [(rotated(q, at(start + 3)) * rotated(k, at(start))).sum() for start in (0, 5, 100)]
    torch.testing.assert_close(scores[0], scores[1])
    torch.testing.assert_close(scores[0], scores[2], rtol=1e-4, atol=1e-4)


def test_attention_written_out_is_that_of_torch() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 2, 5, 8).unbind()
    for last in (5, 2, 1):  # all positions, or the last ones with a cache
        part = q[:, :, -last:]
        torch.testing.assert_close(attend(part.clone().requires_grad_(), k, v), attend(part, k, v))


def test_at_first_all_tokens_are_equally_likely() -> None:
    logits = tiny(11, 6)(torch.randint(11, (2, 5))).detach()
    assert float(logits.abs().max()) == 0


def test_a_sequence_beyond_the_context_is_refused() -> None:
    with pytest.raises(ValueError, match="7 tokens exceed the context length 6"):
        tiny(11, 6)(torch.zeros(1, 7, dtype=torch.long))
    with pytest.raises(UserError, match=r"num_heads = 6"):
        Transformer(11, 6, dim=32, num_heads=3)


@pytest.mark.parametrize("positions", POSITIONS)
def test_it_learns_to_count(positions: str) -> None:
    """Sequences that go up by one from a random start: after the first token nothing is left to guess."""
    torch.manual_seed(0)
    network = tiny(7, 6, positions=positions)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(60):
        tokens = (torch.randint(7, (32, 1)) + torch.arange(6)) % 7
        losses = cross_entropy(network(tokens[:, :-1]).transpose(1, 2), tokens, reduction="none")
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()
    assert float(losses[:, 0].detach().mean()) == pytest.approx(1.946, abs=0.15)  # ln 7
    assert float(losses[:, 1:].detach().mean()) < 0.1
