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


def log_realness(model: GAN, split: str, batch: tuple[Tensor, Tensor]) -> None:
    """Log `{split}/realness`, the mean of a batch of held-out images (N, C, H, W) with labels (N,) or (N, K).

    A value far below that of training images indicates memorisation. Exported models have no discriminator: they log nothing.
    """
    if model.is_exported:
        return
    images, labels = batch
    realness = model.realness(images, labels if model.conditional else None).mean()
    model.log(f"{split}/realness", realness, sync_dist=True, batch_size=len(images))
