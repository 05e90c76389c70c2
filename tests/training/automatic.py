"""The smallest generative model with one optimiser: it learns a picture, and samples are that picture and noise."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from genai.models.base import ImageModel, Shape
from genai.models.ema import Averaged
from genai.models.seeds import seeded_normal


class Picture(nn.Module):
    """One image, the same for every input."""

    def __init__(self, image_shape: Shape) -> None:
        super().__init__()
        self.image = nn.Parameter(torch.zeros(image_shape))

    def forward(self, x: Tensor) -> Tensor:
        return self.image.expand(len(x), -1, -1, -1)


class Mean(ImageModel):
    """Learns the mean image by stochastic gradient descent on the squared error.

    Args:
        image_shape: (C, H, W), linked from the data.
        num_classes: linked from the data; not used.
        lr: the learning rate.
        frozen: forget to update the averaged weights.
    """

    def __init__(self, image_shape: Shape, num_classes: int, lr: float = 0.5, frozen: bool = False) -> None:
        super().__init__(image_shape, num_classes)
        self.network = Picture(self.image_shape)
        self.averaged = Averaged(self.network, halflife_kimg=0)
        self.lr = lr
        self.frozen = frozen

    def trained_network(self) -> nn.Module:
        return self.averaged.network if self.frozen else self.network

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = (self.network(batch[0]) - batch[0]).square().mean()
        self.log("train/loss", loss, prog_bar=True)
        self.count_images(len(batch[0]))
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/loss", (self.network(batch[0]) - batch[0]).square().mean(), sync_dist=True)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.network.parameters(), self.lr)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)}

    def generate(self, seeds: Sequence[int], condition: Tensor | None, **options: Any) -> Tensor:
        noise = seeded_normal(seeds, self.image_shape).to(self.device)
        return (self.averaged(noise) + 0.1 * noise).clamp(-1, 1)
