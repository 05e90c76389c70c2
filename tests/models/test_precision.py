"""bfloat16 where it is fast."""

from typing import Any

import pytest
import torch
from torch import Tensor

from genai.models.diffusion.editing import in_bfloat16
from genai.models.precision import is_slow

CASCADE_LAKE = {"architecture": "x86_64", "avx512_f": True, "avx512_bf16": False, "amx_bf16": False}
COOPER_LAKE = CASCADE_LAKE | {"avx512_bf16": True}
SAPPHIRE_RAPIDS = COOPER_LAKE | {"amx_bf16": True}
ARM = {"architecture": "arm64", "bf16": True}


@pytest.mark.parametrize(
    ("precision", "device", "processor", "slow"),
    [
        ("bf16-mixed", "cpu", CASCADE_LAKE, True),
        ("bf16-true", "cpu", CASCADE_LAKE, True),
        ("bf16-mixed", "cpu", COOPER_LAKE, False),
        ("bf16-mixed", "cpu", SAPPHIRE_RAPIDS, False),
        ("bf16-mixed", "cpu", ARM, False),
        ("bf16-mixed", "cuda", CASCADE_LAKE, False),
        ("32-true", "cpu", CASCADE_LAKE, False),
    ],
)
def test_bfloat16_is_slow_without_instructions_for_it(
    precision: str, device: str, processor: dict[str, Any], slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: processor, raising=False)
    assert is_slow(precision, torch.device(device)) is slow


def test_a_torch_that_does_not_know_its_processor_reports_no_slowness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not is_slow("bf16-mixed", torch.device("cpu"))


@pytest.mark.parametrize(("processor", "expected"), [(CASCADE_LAKE, torch.float32), (COOPER_LAKE, torch.bfloat16)])
def test_a_sampler_uses_bfloat16_where_it_is_fast(
    processor: dict[str, Any], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: processor, raising=False)
    computed = []

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        product = x.flatten(1) @ torch.ones(4, 1)
        computed.append(product.dtype)
        return x

    in_bfloat16(denoise)(torch.zeros(2, 1, 2, 2), torch.ones(2))
    assert computed == [expected]
