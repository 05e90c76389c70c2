"""Seeds: one stream for each sample, shared by no other, the same everywhere."""

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from genai.models.seeds import SeededRandom, image_seeds, seeded_normal, seeded_uniform


def test_a_row_depends_on_its_own_seed_only() -> None:
    seeds = image_seeds(3, 5)
    alone, together = seeded_normal(seeds[2:3], (4, 4)), seeded_normal(seeds, (4, 4))
    assert torch.equal(alone[0], together[2])


@pytest.mark.parametrize(("one", "other"), [(0, 244002641), (0, 1), (2**31 - 2, 2**31 - 1)])
def test_two_user_seeds_share_no_sample(one: int, other: int) -> None:
    """0 and 244002641 shared images while torch's generator took 32 bits of a seed."""
    rows = seeded_normal([*image_seeds(one, 500), *image_seeds(other, 500)], (8,))
    assert len(torch.unique(rows, dim=0)) == 1000


def test_the_stream_is_philox_keyed_by_user_seed_and_index() -> None:
    words = np.random.Philox(key=np.array([7, 2], dtype=np.uint64)).random_raw(3)
    expected = torch.tensor([((int(word) >> 11) + 0.5) / 2**53 for word in words], dtype=torch.float64)
    random = SeededRandom([7 * 2**32 + 2])
    assert torch.equal(random.uniform((3,))[0], expected)
    assert not torch.equal(random.uniform((3,))[0], expected)  # a second call continues the stream


def test_the_distributions() -> None:
    seeds = image_seeds(1, 400)
    assert kstest(seeded_normal(seeds, (25,)).flatten().numpy(), "norm").pvalue > 0.01
    uniform = seeded_uniform(seeds, (25,))
    assert uniform.dtype == torch.float32
    assert 0 < uniform.min() <= uniform.max() < 1
    assert kstest(uniform.flatten().numpy(), "uniform").pvalue > 0.01
    counts = SeededRandom(image_seeds(2, 3000)).integers(3).bincount()
    assert counts.sum() == 3000
    assert (counts - 1000).abs().max() < 120
