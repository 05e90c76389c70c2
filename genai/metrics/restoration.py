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
    """Compare restored uint8 images with their originals; PSNR and SSIM are torchmetrics'.

    Args:
        restored: (N, C, H, W).
        originals: (N, C, H, W).
        network: the feature network of the feature distance.
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    x, y = restored.float(), originals.float()
    psnr = peak_signal_noise_ratio(x, y, data_range=255.0, reduction="elementwise_mean", dim=(1, 2, 3))
    ssim = structural_similarity_index_measure(x, y, data_range=255.0)
    assert isinstance(ssim, Tensor)
    cosine = torch.cosine_similarity(network(restored).pool, network(originals).pool, dim=1)
    return Fidelity(float(psnr), float(ssim), float((1 - cosine).mean()))
