"""Kneser-Ney smoothing against a reference with dictionaries, written from the equations."""

from collections import Counter, defaultdict

import pytest
import torch

from genai.errors import UserError
from genai.networks.kneser_ney import KneserNey, discounts_of
from genai.networks.transformer import Cache

V = 6


def reference(text: list[int], order: int, discounts: list[list[float]]) -> dict[tuple[int, ...], float]:
    """p(w | context) of every context that was seen, and of the empty one, from counts in dictionaries."""
    tables = {order: Counter(tuple(text[i : i + order]) for i in range(len(text) - order + 1))}
    for k in range(order - 1, 0, -1):
        left = defaultdict(set)
        for gram in tables[k + 1]:
            left[gram[1:]].add(gram[0])
        tables[k] = Counter({gram: len(tokens) for gram, tokens in left.items()})
    p = {(w,): 1 / V for w in range(V)}  # of the level below
    result = {}
    for k in range(1, order + 1):
        following = defaultdict(dict)
        for gram, count in tables[k].items():
            following[gram[:-1]][gram[-1]] = count
        new = {}
        for context, counts in following.items():
            total = sum(counts.values())
            taken = {w: discounts[k - 1][min(count, 3) - 1] for w, count in counts.items()}
            for w in range(V):
                lower = p[(w,)] if k == 1 else p.get((*context[1:], w), 0)
                new[(*context, w)] = (max(counts.get(w, 0) - taken.get(w, 0), 0) + sum(taken.values()) * lower) / total
        result.update(new)
        p = new
    return result


@pytest.fixture(scope="module")
def text() -> list[int]:
    generator = torch.Generator().manual_seed(0)
    return torch.multinomial(torch.tensor([0.4, 0.3, 0.15, 0.1, 0.05, 0.0]), 400, True, generator=generator).tolist()


@pytest.mark.parametrize("order", [1, 2, 3])
def test_probabilities_equal_those_of_the_reference(text: list[int], order: int) -> None:
    network = KneserNey(V, order)
    network.add(torch.tensor([text]))
    expected = reference(text, order, [level.discounts.tolist() for level in network.build()])
    assert len(expected) >= V
    for gram, p in expected.items():
        found = network.log_probs(torch.tensor([gram]))[0, -1].exp()
        assert float(found) == pytest.approx(p, rel=1e-9), gram


def test_labels_have_their_own_counts_and_together_those_of_the_null_condition(text: list[int]) -> None:
    other = [(3 * token + 1) % V for token in text[:150]]
    network = KneserNey(V, 3, num_classes=2)
    for label, part in ((0, text), (1, other)):
        network.add(torch.tensor([part]), torch.tensor([label]))
    discounts = [level.discounts.tolist() for level in network.build()]
    for label, part in ((0, text), (1, other)):
        for gram, p in reference(part, 3, discounts).items():
            found = network.log_probs(torch.tensor([gram]), torch.tensor([label]))[0, -1].exp()
            assert float(found) == pytest.approx(p, rel=1e-9), gram
    one_hot, tokens, cache = torch.tensor([[0.0, 1.0], [0.0, 0.0]]), torch.tensor([[3, 1, 4], [3, 1, 4]]), Cache()
    steps = [network(tokens[:, :1], one_hot, cache), *(network(tokens[:, i : i + 1], cache=cache) for i in (1, 2))]
    following = torch.cat(steps, dim=1)  # (2, 4, V)
    torch.testing.assert_close(following, network(tokens, one_hot))
    found = following[:, :-1].gather(2, tokens[..., None])[..., 0]
    torch.testing.assert_close(found[:1], network.log_probs(tokens[:1], torch.tensor([1])))
    torch.testing.assert_close(found[1:], network.log_probs(tokens[1:]))


def test_every_distribution_sums_to_one(text: list[int]) -> None:
    network = KneserNey(V, 3)
    network.add(torch.tensor([text]))
    contexts = torch.cartesian_prod(torch.arange(V), torch.arange(V))
    torch.testing.assert_close(network.next_log_probs(contexts).exp().sum(dim=1), torch.ones(V * V, dtype=torch.float64))
    assert network.next_log_probs(contexts).exp().min() > 0  # token 5 was never seen


def test_discounts_are_those_of_chen_and_goodman() -> None:
    counts = torch.tensor([1.0] * 10 + [2.0] * 4 + [3.0] * 2 + [4.0] + [9.0])
    y = 10 / (10 + 8)
    assert discounts_of(counts).tolist() == pytest.approx([1 - 2 * y * 4 / 10, 2 - 3 * y * 2 / 4, 3 - 4 * y * 1 / 2])


def test_counts_do_not_depend_on_the_batches(text: list[int]) -> None:
    windows = torch.tensor(text).unfold(0, 20, 20)
    whole, parts = KneserNey(V, 3), KneserNey(V, 3)
    whole.add(windows)
    for i, window in enumerate(windows):
        parts.add(torch.cat([window, torch.full((4,), -1)])[None])
        if i % 5 == 0:
            parts.merge()
    loaded = KneserNey(V, 3)
    loaded.load_state_dict(parts.state_dict())
    for name, value in whole.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


def test_too_many_tokens_for_the_order() -> None:
    with pytest.raises(UserError, match="order 8 is out of range for 1,024 tokens"):
        KneserNey(1024, 8)


@pytest.mark.parametrize("order", [2, 3, 4])
def test_the_start_of_documents_is_learned(order: int) -> None:
    """Three of four documents begin with 1, the others with 2, and most are shorter than n."""
    documents = torch.tensor([[5, 1, 3, 5, -1], [5, 1, 5, -1, -1], [5, 1, 4, 3, 5], [5, 2, 5, -1, -1]]).repeat(20, 1)
    network = KneserNey(V, order, by_document=True)
    network.add(documents)
    following = network(torch.tensor([[5]]))[0, 1].exp()  # after the start
    assert following[1] == pytest.approx(0.75, abs=0.02)
    assert following[2] == pytest.approx(0.25, abs=0.02)
    rows = documents[:4].clamp(min=0)
    expected = network(rows)[:, :-1].gather(2, rows[..., None])[..., 0]
    torch.testing.assert_close(network.log_probs(rows)[:, 1:], expected[:, 1:])
    cache = Cache()
    steps = torch.cat([network(rows[:, i : i + 1], cache=cache) for i in range(5)], dim=1)
    torch.testing.assert_close(steps, network(rows))
    loaded = KneserNey(V, order)
    loaded.load_state_dict(network.state_dict())
    assert torch.equal(loaded(rows), network(rows))


def test_no_token_has_probability_zero() -> None:
    """In short texts a discount of Chen & Goodman can be negative, so that a context would leave nothing to other tokens."""
    for seed in range(40):
        text = torch.multinomial(torch.tensor([0.6, 0.3, 0.07, 0.03]), 300, True, generator=torch.Generator().manual_seed(seed))
        network = KneserNey(4, 3)
        network.add(text[None, :200])
        assert network.log_probs(text[None, 200:]).isfinite().all()
        assert all((level.discounts > 0).all() for level in network.build())
