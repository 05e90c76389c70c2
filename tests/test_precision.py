"""bfloat16 where it is quick, and a word where it is not."""

import pytest
import torch
from torch import Tensor

from genai.models.diffusion.editing import in_bfloat16
from genai.precision import is_slow


@pytest.mark.parametrize(
    ("precision", "device", "capability", "slow"),
    [
        ("bf16-mixed", "cpu", "AVX2", True),
        ("bf16-true", "cpu", "DEFAULT", True),
        ("bf16-mixed", "cpu", "AVX512", False),
        ("bf16-mixed", "cuda", "AVX2", False),
        ("32-true", "cpu", "AVX2", False),
    ],
)
def test_bfloat16_is_said_to_be_slow_where_it_is(
    precision: str, device: str, capability: str, slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert is_slow(precision, torch.device(device)) is slow


@pytest.mark.parametrize(("capability", "expected"), [("AVX2", torch.float32), ("AVX512", torch.bfloat16)])
def test_a_sampler_asked_for_bfloat16_takes_it_where_it_is_quick(
    capability: str, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    computed = []

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        product = x.flatten(1) @ torch.ones(4, 1)
        computed.append(product.dtype)
        return x

    in_bfloat16(denoise)(torch.zeros(2, 1, 2, 2), torch.ones(2))
    assert computed == [expected]
