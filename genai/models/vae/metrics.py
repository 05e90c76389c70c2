"""A metric of the latents of a VAE."""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

ACTIVE_VARIANCE = 0.01


class ActiveUnits(Metric):
    """How many latents have a posterior mean that varies over the images.

    Active means a variance above 0.01 (Burda et al. 2015, arXiv:1509.00519, section 5.2).
    """

    full_state_update = False
    means: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("means", [], dist_reduce_fx="cat")

    def update(self, means: Tensor) -> None:
        """Add the posterior means (N, D) of N images."""
        self.means.append(means)

    def compute(self) -> Tensor:
        """The number of active latents, a float32 scalar."""
        variance: Tensor = dim_zero_cat(self.means).var(dim=0)
        return (variance > ACTIVE_VARIANCE).sum().to(torch.float32)
