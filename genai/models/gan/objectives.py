"""What the two players minimise. Each method takes the discriminator and a batch and returns an unreduced loss (N,).

`discriminator` maps images (N, C, H, W) in [-1, 1] to logits (N,); the condition is already bound to it. Symbols: D the
discriminator's logit, x a real image, G(z) a generated one.
"""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor
from torch.nn.functional import softplus

Discriminator = Callable[[Tensor], Tensor]


class Objective(Protocol):
    """A pair of losses that the discriminator and the generator play."""

    def discriminator_loss(self, discriminator: Discriminator, real: Tensor, fake: Tensor) -> Tensor:
        """Loss (N,) of the discriminator on real and (detached) generated images."""

    def generator_loss(self, discriminator: Discriminator, real: Tensor, fake: Tensor) -> Tensor:
        """Loss (N,) of the generator; its gradient flows through `fake`."""


class NonSaturating:
    """The non-saturating game of Goodfellow et al. 2014 (arXiv:1406.2661), equation 1 with the generator's log D trick."""

    def discriminator_loss(self, discriminator: Discriminator, real: Tensor, fake: Tensor) -> Tensor:
        """-log sigmoid(D(x)) - log(1 - sigmoid(D(G(z))))."""
        return softplus(-discriminator(real)) + softplus(discriminator(fake))

    def generator_loss(self, discriminator: Discriminator, real: Tensor, fake: Tensor) -> Tensor:
        """-log sigmoid(D(G(z)))."""
        return softplus(-discriminator(fake))
