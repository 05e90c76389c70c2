"""RMS normalisation in few operations is that of torch, with its gradient."""

import torch
from torch.nn import functional

from genai.networks.normalisation import rms_norm


def test_it_is_torchs_rms_norm_with_its_gradient() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 8).transpose(1, 2)
    x[0, 0, 0] = 0  # a vector of zeros stays zero
    x, weight = x.requires_grad_(), torch.randn(2, 5, 3, 8)
    expected = functional.rms_norm(x, (8,))
    torch.testing.assert_close(rms_norm(x), expected)
    (found,), (gradient,) = (torch.autograd.grad((y * weight).sum(), x) for y in (rms_norm(x), expected))
    torch.testing.assert_close(found, gradient)


def test_half_precision_is_left_to_torch() -> None:
    x = torch.randn(4, 8, dtype=torch.bfloat16)
    assert torch.equal(rms_norm(x), functional.rms_norm(x, (8,)))
