"""How near a restored image is to the one that was hidden: PSNR, SSIM, and the distance of features."""

from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from genai.metrics.features import FeatureNetwork


class Fidelity(NamedTuple):
    """Means over the images.

    psnr: peak signal-to-noise ratio, dB; more is nearer.
    ssim: structural similarity (Wang et al. 2004), at most 1; more is nearer.
    feature_distance: 1 minus the cosine of the features' angle, 0 to 1; less is nearer.
    """

    psnr: float
    ssim: float
    feature_distance: float


def fidelity(restored: Tensor, originals: Tensor, network: FeatureNetwork) -> Fidelity:
    """Compare uint8 images (N, C, H, W) with what they should be; PSNR and SSIM by torchmetrics.

    Args:
        restored: what was made of the damaged images.
        originals: the images before.
        network: whose features are compared.
    """
    x, y = restored.float(), originals.float()
    psnr = peak_signal_noise_ratio(x, y, data_range=255.0, reduction="elementwise_mean", dim=(1, 2, 3))
    ssim = structural_similarity_index_measure(x, y, data_range=255.0)
    assert isinstance(ssim, Tensor)
    cosine = torch.cosine_similarity(network(restored).pool, network(originals).pool, dim=1)
    return Fidelity(float(psnr), float(ssim), float((1 - cosine).mean()))
