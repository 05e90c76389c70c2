"""How well codes keep images, and how well a prior predicts them, over a whole split."""

import math

import torch
from torch import Tensor
from torchmetrics import MeanMetric

from genai.models.vqvae.quantizers import over_ranks, perplexity, usage


class CodeScores:
    """Gathers the figures of a split, over all devices; no module, so that nothing of it enters a checkpoint.

    Args:
        num_codes: K.
        num_pixels: pixels of an image, times channels.
        grid_size: codes of an image.
    """

    def __init__(self, num_codes: int, num_pixels: int, grid_size: int) -> None:
        self.num_codes = num_codes
        self.codes_per_dim = grid_size / num_pixels
        self.reconstruction = MeanMetric()
        self.nats = MeanMetric()
        self.counts = torch.zeros(num_codes)

    def update(self, reconstruction: Tensor, codes: Tensor, nats: Tensor | None) -> None:
        """Add N images: distances (N,), codes (N, h, w) and, once there is a prior, the nats of each code (N, h * w)."""
        self.reconstruction.to(codes.device).update(reconstruction)
        self.counts = self.counts.to(codes.device) + usage(codes, self.num_codes)
        if nats is not None:
            self.nats.to(codes.device).update(nats)

    def compute(self) -> dict[str, float]:
        """`reconstruction`, `codes_used`, `perplexity`; with a prior `prior_nats` per code and `code_bits_per_dim`.

        The latter is what the prior needs to send the codes of an image, over the image's numbers: no density of the image
        itself, of which the codes leave something out.
        """
        counts = over_ranks(self.counts.clone())
        figures = {
            "reconstruction": float(self.reconstruction.compute()),
            "codes_used": float((counts > 0).sum()),
            "perplexity": float(perplexity(counts)),
        }
        if self.nats.update_called:
            nats = float(self.nats.compute())
            figures |= {"prior_nats": nats, "code_bits_per_dim": nats * self.codes_per_dim / math.log(2)}
        return figures
