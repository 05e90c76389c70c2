"""Maps of words against a planted answer, erased heads, restored layers, integrated gradients of a linear score."""

from pathlib import Path

import pytest
import torch
from torch import nn

from genai.cli.internals import validation_windows
from genai.control.explanations import gradient_maps, top_share
from genai.control.head_erasure import erase_heads, loss_of_windows, without_heads
from genai.control.layer_changes import layer_changes, restored
from genai.control.spaces import EditSpace, Points
from genai.control.word_maps import intersection
from genai.data.arithmetic import Sums
from genai.data.avatars.masks import attribute_mask
from genai.networks.attention import Attention
from genai.networks.transformer import Transformer


def test_attention_weights_give_the_output_of_attention() -> None:
    torch.manual_seed(0)
    layer = Attention(8, 2, 6)
    nn.init.normal_(layer.project.weight)
    x, context, visible = torch.randn(3, 4, 8), torch.randn(3, 5, 6), torch.rand(3, 5) > 0.4
    weights = layer.weights(x, context, visible)
    assert weights.shape == (3, 2, 4, 9)
    assert torch.allclose(weights.sum(dim=-1), torch.ones(3, 2, 4))
    assert (weights[..., 4:].amax(dim=(1, 2))[~visible] == 0).all()
    v = torch.cat([layer.heads(layer.qkv(x)[..., 16:]), layer.heads(layer.context(context)[..., 8:])], dim=2)  # type: ignore[misc]
    y = layer.project((weights @ v).transpose(1, 2).flatten(2))
    assert torch.allclose(y, layer(x, context, visible), atol=1e-5)


def test_the_renderers_mask_of_a_hat_lies_above_that_of_a_beard() -> None:
    hat, beard = (torch.from_numpy(attribute_mask(name, 3, 32)) for name in ("hat", "beard"))
    rows = torch.arange(32.0)[:, None]
    assert (rows * hat).sum() / hat.sum() < (rows * beard).sum() / beard.sum()


def test_intersection_is_one_for_the_mask_itself_and_zero_beside_it() -> None:
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[:, :2] = True
    assert intersection(mask.float(), mask).item() == 1
    assert intersection((~mask).float(), mask).item() == 0


def test_erasing_all_heads_is_a_network_without_attention() -> None:
    torch.manual_seed(0)
    network = Transformer(7, 6, dim=8, depth=2, num_heads=2)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    tokens = torch.randint(7, (8, 6))
    with without_heads(network, [(b, h) for b in range(2) for h in range(2)]):
        erased = loss_of_windows(network, tokens)
    for block in network.blocks:
        nn.init.zeros_(block.get_submodule("attention").get_submodule("project").weight)  # type: ignore[arg-type]
    assert torch.allclose(erased, loss_of_windows(network, tokens), atol=1e-6)
    assert erase_heads(network, tokens).single.abs().max() < 1e-6


def test_heads_are_erased_on_documents_as_in_training(workspace: Path) -> None:
    data = Sums(num_sums=100, context_length=14)
    windows = validation_windows(data, data.context_length, 4)
    tokenizer = data.tokenizer
    assert (windows[:, 0] == tokenizer.end).all()
    assert tokenizer.text([token for token in windows[0, 1:].tolist() if token >= 0]).endswith("\n")
    network = Transformer(tokenizer.vocab_size, data.context_length, dim=8, depth=1, num_heads=2)
    nn.init.normal_(network.logits.weight)
    row = windows[0][windows[0] >= 0]  # a document alone, without padding
    assert len(row) < windows.shape[1]
    assert torch.allclose(loss_of_windows(network, windows)[0], loss_of_windows(network, row[None])[0], atol=1e-6)


class Halves(nn.Module):
    """The first latent draws the left half of an image, the second the right half."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 16, bias=False)
        columns = torch.arange(16) % 4
        self.first.weight.data = torch.stack([columns < 2, columns >= 2], dim=1).float()
        self.last = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.ones_(self.last.weight)

    def decode(self, z: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        return self.last(self.first(z).view(-1, 1, 4, 4))  # type: ignore[no-any-return]


def test_a_direction_changes_the_places_that_it_draws_and_restoring_them_undoes_it() -> None:
    space = EditSpace("z", Halves())
    points, move = Points(0.1 * torch.ones(3, 2), None), torch.tensor([0.5, 0.0])
    places = layer_changes(space, points, move, torch.tensor([[0.0, 0.5]]))[-1].places
    assert places is not None
    assert torch.equal(places, torch.tensor([1.0, 1.0, 0.0, 0.0]).expand(4, 4))
    most, random = restored(space, points, move, "last", 0.5)
    assert torch.allclose(most, space.decode(points))
    assert not torch.allclose(random, space.decode(points))


def test_integrated_gradients_of_a_linear_score() -> None:
    pytest.importorskip("captum")
    weight = torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(0))
    images = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    maps = gradient_maps(lambda x: (x * weight).sum(dim=(1, 2, 3)), images, torch.zeros(1, 4, 4), 2)
    expected = torch.nn.functional.avg_pool2d(images * weight, 2) * 4
    assert torch.allclose(maps[:, ::2, ::2], expected[:, 0], atol=1e-5)


def test_top_share_takes_the_values_where_the_map_is_largest() -> None:
    values = torch.arange(8.0).view(1, 2, 4)
    assert top_share(values, -values, 0.25).item() == 0.5
