"""Quantizers: straight-through gradients, moving averages of codes, revival, bounds and indices of FSQ, perplexity."""

import math

import pytest
import torch
from torch import Tensor

from genai.errors import UserError
from genai.models.vqvae.quantizers import FSQ, Quantizer, VectorQuantizer, nearest, perplexity, usage


def ready(codebook: Tensor, **options) -> VectorQuantizer:
    """A vector quantizer with these codes (K, dim), all in use."""
    quantizer = VectorQuantizer(*codebook.shape, **options)
    quantizer.codebook.copy_(codebook)
    quantizer.sums.copy_(codebook)
    quantizer.is_ready.fill_(True)
    return quantizer


def update(quantizer: Quantizer, z: Tensor) -> Tensor:
    """One training step; returns the indices of z."""
    indices = quantizer(z).indices
    quantizer.update_codes(z, indices)
    return indices


def grid_of(vectors: Tensor) -> Tensor:
    """(L, dim) -> (1, dim, 1, L)."""
    return vectors.T[None, :, None]


@pytest.mark.parametrize("quantizer", [VectorQuantizer(16, 3, commitment=0.0), FSQ([8, 5, 4])])
def test_the_gradient_goes_straight_through(quantizer: Quantizer) -> None:
    """What reaches z is the gradient at z_q; FSQ's passes the bounding function, whose slope at 0 is known."""
    torch.manual_seed(0)
    z = (1e-4 * torch.randn(2, 3, 4, 4)).requires_grad_()
    z_q, _, loss = quantizer(z)
    weights = torch.randn_like(z_q)
    ((weights * z_q).sum() + loss.sum()).backward()
    slope = torch.ones(3)
    if isinstance(quantizer, FSQ):
        half_width = torch.tensor([7.0, 4.0, 3.0]) * (1 + 1e-3) / 2
        offset = torch.tensor([0.5, 0.0, 0.5])
        slope = half_width * (1 - (offset / half_width) ** 2) / torch.tensor([4.0, 2.0, 2.0])
    torch.testing.assert_close(z.grad, weights * slope[:, None, None], rtol=1e-2, atol=1e-4)


def test_the_commitment_pulls_vectors_to_their_codes_and_no_gradient_reaches_the_codes() -> None:
    quantizer = ready(torch.tensor([[0.0, 0.0], [10.0, 10.0]]), commitment=0.25)
    z = grid_of(torch.tensor([[1.0, 2.0], [9.0, 10.0]])).requires_grad_()
    z_q, indices, loss = quantizer(z)
    assert indices.flatten().tolist() == [0, 1]
    torch.testing.assert_close(z_q, grid_of(torch.tensor([[0.0, 0.0], [10.0, 10.0]])))
    torch.testing.assert_close(loss, torch.tensor([0.25 * (1 + 4 + 1 + 0) / 4]))
    loss.sum().backward()
    torch.testing.assert_close(z.grad, 0.25 * 2 / 4 * grid_of(torch.tensor([[1.0, 2.0], [-1.0, 0.0]])))
    assert not list(quantizer.parameters())


def test_codes_move_to_the_mean_of_their_vectors() -> None:
    """e = (0.9 m + 0.1 (sum of its vectors)) / (0.9 N + 0.1 (their number)), equations 6 to 8."""
    quantizer = ready(torch.tensor([[0.0], [10.0]]), decay=0.9, dead_share=0.0)
    update(quantizer, grid_of(torch.tensor([[1.0], [2.0], [11.0]])))
    expected = torch.tensor([[(0.9 * 0 + 0.1 * 3) / (0.9 + 0.2)], [(0.9 * 10 + 0.1 * 11) / (0.9 + 0.1)]])
    torch.testing.assert_close(quantizer.codebook, expected)
    for _ in range(200):
        update(quantizer, grid_of(torch.tensor([[1.0], [2.0], [11.0]])))
    torch.testing.assert_close(quantizer.codebook, torch.tensor([[1.5], [11.0]]), rtol=0, atol=1e-4)


def test_quantizing_changes_no_state() -> None:
    quantizer = VectorQuantizer(8, 2).train()
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    quantizer(torch.randn(2, 2, 3, 3))
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())


def test_the_first_codes_are_vectors_of_the_first_batch() -> None:
    torch.manual_seed(0)
    quantizer = VectorQuantizer(8, 2, decay=1.0, dead_share=0.0)
    z = 100 + torch.randn(4, 2, 3, 3)
    update(quantizer, z)
    distances = torch.cdist(quantizer.codebook, z.movedim(1, -1).flatten(0, 2)).min(dim=1).values
    assert float(distances.max()) < 1e-3
    assert len(quantizer.codebook.unique(dim=0)) == 8


def test_dead_codes_are_put_where_the_error_is() -> None:
    """Three clusters and one useful code: the others go to the clusters that have none."""
    torch.manual_seed(0)
    far = torch.full((4, 2), 1000.0)
    far[0] = 0.0
    quantizer = ready(far + torch.arange(4)[:, None], decay=0.5, dead_share=0.1)
    centres = torch.tensor([[0.0, 0.0], [30.0, 0.0], [0.0, 30.0]]).repeat(40, 1)
    z = grid_of(centres + 0.01 * torch.randn_like(centres))
    for _ in range(10):
        update(quantizer, z)
    assert set(quantizer(z).indices.flatten().tolist()) >= {0}
    assert float((quantizer(z).z_q - z).abs().max()) < 0.1


def test_without_revival_dead_codes_stay_dead() -> None:
    torch.manual_seed(0)
    quantizer = ready(torch.tensor([[0.0], [1000.0]]), decay=0.5, dead_share=0.0)
    for _ in range(10):
        used = update(quantizer, grid_of(torch.tensor([[0.0], [30.0]]))).unique()
    assert used.tolist() == [0]


def test_revival_is_a_function_of_the_generator() -> None:
    def trained(seed: int) -> Tensor:
        torch.manual_seed(0)
        quantizer, batches = VectorQuantizer(32, 2, decay=0.8, dead_share=0.5), torch.randn(20, 4, 2, 3, 3)
        for i, z in enumerate(batches):
            torch.manual_seed(seed + i)
            update(quantizer, z)
        return quantizer.codebook

    assert torch.equal(trained(1), trained(1))
    assert not torch.equal(trained(1), trained(2))


def test_quantizers_compute_in_float32() -> None:
    for quantizer in (VectorQuantizer(8, 3), FSQ([5, 5, 5])):
        with torch.autocast("cpu", torch.bfloat16):
            z_q, _, loss = quantizer(torch.randn(2, 3, 2, 2, dtype=torch.bfloat16))
        assert z_q.dtype == loss.dtype == torch.float32


def test_nearest_is_the_nearest() -> None:
    torch.manual_seed(0)
    vectors, codebook = torch.randn(200, 5), torch.randn(17, 5)
    assert torch.equal(nearest(vectors, codebook), torch.cdist(vectors, codebook).argmin(dim=1))


@pytest.mark.parametrize("levels", [[8, 8, 8], [5, 5, 5, 5], [8, 6, 5], [2, 3]])
def test_fsq_indices_and_codes_are_the_same_thing(levels: list[int]) -> None:
    quantizer = FSQ(levels)
    assert quantizer.num_codes == math.prod(levels)
    indices = torch.arange(quantizer.num_codes).view(1, 1, -1)
    codes = quantizer.codes(indices)  # (1, dim, 1, K)
    assert len(codes[0, :, 0].unique(dim=1).T) == quantizer.num_codes
    assert [len(number.unique()) for number in codes[0, :, 0]] == levels
    assert codes.abs().max() <= 1
    # numbers that are bounded to the codes: the inverse of `bound` at the codes
    half_width, offset = (quantizer.levels - 1) * (1 + 1e-3) / 2, torch.where(quantizer.levels % 2 == 0, 0.5, 0.0)
    inside = ((codes * (quantizer.levels // 2) + offset) / half_width).clamp(-0.9999, 0.9999)
    z = inside.atanh() - (offset / half_width).atanh()
    assert torch.equal(quantizer(z).indices, indices)
    torch.testing.assert_close(quantizer(z).z_q, codes)


def test_fsq_reaches_its_bounds_and_no_further() -> None:
    quantizer = FSQ([8, 5])
    z = torch.tensor([-1e4, 0.0, 1e4]).expand(2, 3)[None, :, None]  # (1, 2, 1, 3)
    z_q, indices, loss = quantizer(z)
    torch.testing.assert_close(z_q[0, :, 0], torch.tensor([[-1.0, 0.0, 0.75], [-1.0, 0.0, 1.0]]))
    assert indices.min() == 0
    assert indices.max() == quantizer.num_codes - 1
    assert loss.tolist() == [0.0]


def test_one_level_is_an_error() -> None:
    with pytest.raises(UserError, match="use 2 or more"):
        FSQ([8, 1])


def test_perplexity_is_that_of_equally_frequent_codes() -> None:
    assert float(perplexity(torch.tensor([5.0, 5.0, 5.0, 5.0]))) == pytest.approx(4.0)
    assert float(perplexity(torch.tensor([7.0, 0.0, 0.0]))) == pytest.approx(1.0)
    two = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert float(perplexity(torch.tensor([3.0, 1.0]))) == pytest.approx(math.exp(two))
    assert usage(torch.tensor([[[0, 2], [2, 2]]]), 4).tolist() == [1.0, 0.0, 3.0, 0.0]
