"""Fidelity against its closed forms."""

import math

import numpy as np
import pytest
import torch

from genai.metrics.features import load_extractor
from genai.metrics.restoration import fidelity


def test_an_image_is_nearest_to_itself_and_psnr_is_its_formula() -> None:
    images = torch.randint(40, 200, (6, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    network = load_extractor("mnist")
    same = fidelity(images, images, network)
    assert same.ssim == pytest.approx(1.0)
    assert same.feature_distance == pytest.approx(0.0, abs=1e-5)
    shifted = fidelity(images + 10, images, network)
    assert shifted.psnr == pytest.approx(20 * math.log10(255 / 10), abs=1e-3)
    assert shifted.ssim < 1
    noisy = fidelity(torch.randint_like(images, 256), images, network)
    assert noisy.psnr < shifted.psnr
    assert noisy.ssim < shifted.ssim
    assert noisy.feature_distance > shifted.feature_distance


def test_an_image_restored_exactly_leaves_the_mean_finite() -> None:
    images = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    other = images.clone()
    other[1, 0, 0, 0] ^= 16
    found = fidelity(other, images, load_extractor("digits"))
    mse = 256 / 64
    assert found.psnr == pytest.approx(np.mean([10 * np.log10(255**2 * 64), 10 * np.log10(255**2 / mse)]), abs=1e-3)
