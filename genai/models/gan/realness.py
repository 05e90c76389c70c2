"""Realness: the discriminator's probability that an image is real. A low value on held-out images indicates memorisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from genai.models.gan.gan import GAN

NUM_FAKES = 64  # generated images that a realness is relative to


@torch.no_grad()
def logits_of_samples(model: GAN, labels: Tensor | None) -> Tensor:
    """The discriminator's logits (NUM_FAKES,) of samples, whose conditions are the rows of `labels` in turn."""
    rows = None if labels is None else labels[torch.arange(NUM_FAKES) % len(labels)]
    fake = model.sample(range(NUM_FAKES), rows)
    logits: Tensor = model.discriminator(fake, model.layout.condition(fake, rows))
    return logits


class HeldOutRealness:
    """Logs the mean realness of held-out images; a value far below that of training images indicates memorisation.

    All batches of one pass are compared with the same samples, which are generated for the first batch.
    """

    def __init__(self) -> None:
        self.fake_logits: Tensor | None = None

    @torch.no_grad()
    def log(self, model: GAN, split: str, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Log `{split}/realness` of a batch, images (N, C, H, W) and labels (N,) or (N, K); exported models have none."""
        if model.is_exported:
            return
        images, labels = batch[0], batch[1] if model.conditional else None
        if batch_idx == 0 or self.fake_logits is None:
            self.fake_logits = logits_of_samples(model, labels)
        logits = model.discriminator(images, model.layout.condition(images, labels))
        realness = model.objective.realness(logits, self.fake_logits).mean()
        model.log(f"{split}/realness", realness, sync_dist=True, batch_size=len(images))
