"""What a VAE's bound is made of, over a whole split."""

import math

import torch
from torch import Tensor
from torchmetrics import CatMetric, MeanMetric

from genai.models.vae.objectives import Evidence

ACTIVE_VARIANCE = 0.01


class BoundScores:
    """Gathers the terms of a split, over all devices; no module, so that nothing of it enters a checkpoint.

    Args:
        num_pixels: pixels of an image, times channels.
    """

    def __init__(self, num_pixels: int) -> None:
        self.num_pixels = num_pixels
        self.reconstruction = MeanMetric()
        self.kl = MeanMetric()
        self.means = CatMetric()

    def update(self, evidence: Evidence, means: Tensor) -> None:
        """Add the terms of N images and the means of their posteriors (N, D)."""
        for metric, values in (
            (self.reconstruction, -evidence.log_likelihood.mean(dim=0)),
            (self.kl, evidence.kl.sum(dim=1)),
            (self.means, means),
        ):
            metric.to(values.device).update(values)

    def compute(self) -> dict[str, float]:
        """In nats an image: `elbo`, `reconstruction` (-E ln p(x|z)), `kl`, `loss` (-elbo, to be minimised); `bits_per_dim`.

        `active_units` counts the latents whose posterior mean varies over the images (variance over 0.01, Burda et al. 2015,
        arXiv:1509.00519, section 5.2). A bit per dimension of binarised images is one of pixels of two values.
        """
        reconstruction, kl = float(self.reconstruction.compute()), float(self.kl.compute())
        loss = reconstruction + kl
        variance = torch.as_tensor(self.means.compute()).var(dim=0)
        return {
            "loss": loss,
            "elbo": -loss,
            "reconstruction": reconstruction,
            "kl": kl,
            "active_units": float((variance > ACTIVE_VARIANCE).sum()),
            "bits_per_dim": loss / (self.num_pixels * math.log(2)),
        }
