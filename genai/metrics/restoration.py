"""Fidelity of restored images to the originals: PSNR, SSIM and feature distance."""

from typing import NamedTuple

import torch
from torch import Tensor

from genai.metrics.features import FeatureNetwork


class Fidelity(NamedTuple):
    """Means over the images.

    psnr: peak signal-to-noise ratio, dB; higher is better.
    ssim: structural similarity (Wang et al. 2004), at most 1; higher is better.
    feature_distance: 1 minus the cosine similarity of the features, 0 to 1; lower is better.
    """

    psnr: float
    ssim: float
    feature_distance: float


def fidelity(restored: Tensor, originals: Tensor, network: FeatureNetwork) -> Fidelity:
    """Compare restored uint8 images with their originals; SSIM is torchmetrics'.

    The PSNR of an image that is restored exactly is that of an error of one grey level in one value, so that means are finite.

    Args:
        restored: (N, C, H, W).
        originals: (N, C, H, W).
        network: the feature network of the feature distance.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    x, y = restored.float(), originals.float()
    squared_error = (x - y).square().flatten(1).mean(dim=1).clamp(min=1 / x[0].numel())
    psnr = (10 * torch.log10(255.0**2 / squared_error)).mean()
    ssim = structural_similarity_index_measure(x, y, data_range=255.0)
    assert isinstance(ssim, Tensor)
    cosine = torch.cosine_similarity(network(restored).pool, network(originals).pool, dim=1)
    return Fidelity(float(psnr), float(ssim), float((1 - cosine).mean()))
