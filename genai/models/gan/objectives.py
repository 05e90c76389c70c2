"""Losses of the discriminator and the generator. Each takes the discriminator and a batch and returns an unreduced loss (N,).

`discriminator` maps images (N, C, H, W) to logits (N,); condition and augmentation are already bound to it, so a penalty on its
gradient is one with respect to the image before augmentation. `images_seen` is for weights that follow a schedule, `batch`, the
number of batches before this one, for lazy penalties. Symbols: D the discriminator's logit, x a real image, G(z) a fake.

A new objective is one class with these three methods, named in the YAML; one with a penalty on D's gradient has
`double_backward = True`, for torch.compile.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from genai.errors import check_at_least
from genai.models.schedules import Cosine

Discriminator = Callable[[Tensor], Tensor]


class AdversarialObjective(Protocol):
    """The losses of discriminator and generator, and the conversion of a logit to a probability."""

    def discriminator_loss(
        self, discriminator: Discriminator, real: Tensor, fake: Tensor, images_seen: int, batch: int = 0
    ) -> Tensor:
        """Loss (N,) of the discriminator on real and (detached) generated images (N, C, H, W)."""

    def generator_loss(self, discriminator: Discriminator, real: Tensor, fake: Tensor) -> Tensor:
        """Loss (N,) of the generator; its gradient flows through `fake`."""

    def realness(self, logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Probability of being real (N,) in [0, 1] for `logits` (N,), given the logits of generated images (M,)."""


class NonSaturating:
    """The non-saturating GAN of Goodfellow et al. 2014 (arXiv:1406.2661): equation 1 with the generator's log D trick."""

    def discriminator_loss(
        self, discriminator: Discriminator, real: Tensor, fake: Tensor, images_seen: int, batch: int = 0
    ) -> Tensor:
        """-log sigmoid(D(x)) - log(1 - sigmoid(D(G(z))))."""
        return softplus(-discriminator(real)) + softplus(discriminator(fake))

    def generator_loss(self, discriminator: Discriminator, real: Tensor, fake: Tensor) -> Tensor:
        """-log sigmoid(D(G(z)))."""
        return softplus(-discriminator(fake))

    def realness(self, logits: Tensor, fake_logits: Tensor) -> Tensor:
        """sigmoid(D)."""
        return torch.sigmoid(logits)


class LeastSquares:
    """The least squares GAN of Mao et al. 2017 (arXiv:1611.04076), equation 9: targets 1 for real and 0 for generated."""

    def discriminator_loss(
        self, discriminator: Discriminator, real: Tensor, fake: Tensor, images_seen: int, batch: int = 0
    ) -> Tensor:
        """1/2 (D(x) - 1)^2 + 1/2 D(G(z))^2."""
        return 0.5 * (discriminator(real) - 1).square() + 0.5 * discriminator(fake).square()

    def generator_loss(self, discriminator: Discriminator, real: Tensor, fake: Tensor) -> Tensor:
        """1/2 (D(G(z)) - 1)^2."""
        return 0.5 * (discriminator(fake) - 1).square()

    def realness(self, logits: Tensor, fake_logits: Tensor) -> Tensor:
        """D clamped to [0, 1]: the optimal D is p(x) / (p(x) + q(x)), equation 6 of the paper."""
        return logits.clamp(0, 1)


class Hinge:
    """The hinge loss of Lim & Ye 2017 (arXiv:1705.02894), as in SNGAN (Miyato et al. 2018, arXiv:1802.05957), equation 16.

    For a discriminator with spectral normalisation.
    """

    def discriminator_loss(
        self, discriminator: Discriminator, real: Tensor, fake: Tensor, images_seen: int, batch: int = 0
    ) -> Tensor:
        """max(0, 1 - D(x)) + max(0, 1 + D(G(z)))."""
        return relu(1 - discriminator(real)) + relu(1 + discriminator(fake))

    def generator_loss(self, discriminator: Discriminator, real: Tensor, fake: Tensor) -> Tensor:
        """-D(G(z))."""
        return -discriminator(fake)

    def realness(self, logits: Tensor, fake_logits: Tensor) -> Tensor:
        """(D + 1) / 2 clamped to [0, 1]: the position of D between the margins."""
        return ((logits + 1) / 2).clamp(0, 1)


class WassersteinGP:
    """The Wasserstein loss with gradient penalty of Gulrajani et al. 2017 (arXiv:1704.00028), equation 3.

    For a discriminator ("critic") without batch normalisation, with several discriminator steps per generator step.

    Args:
        penalty: lambda, the weight of the penalty.
    """

    double_backward = True

    def __init__(self, penalty: float = 10.0) -> None:
        self.penalty = penalty

    def discriminator_loss(
        self, discriminator: Discriminator, real: Tensor, fake: Tensor, images_seen: int, batch: int = 0
    ) -> Tensor:
        """D(G(z)) - D(x) + lambda (||grad D(x_hat)|| - 1)^2, x_hat uniform on the line from G(z) to x."""
        epsilon = torch.rand(len(real), 1, 1, 1, device=real.device)
        between = (epsilon * real + (1 - epsilon) * fake).requires_grad_()
        norm = gradient(discriminator(between), between).norm(dim=1)
        return discriminator(fake) - discriminator(real) + self.penalty * (norm - 1).square()

    def generator_loss(self, discriminator: Discriminator, real: Tensor, fake: Tensor) -> Tensor:
        """-D(G(z))."""
        return -discriminator(fake)

    def realness(self, logits: Tensor, fake_logits: Tensor) -> Tensor:
        """sigmoid(D(x) - mean D(G(z))): a critic has no absolute zero, and its scale is that of the pixels."""
        return torch.sigmoid(logits - fake_logits.mean())


class Relativistic:
    """The relativistic pairing loss with R1 and R2 of R3GAN (Huang et al. 2024, arXiv:2501.05441), equations 2 to 4.

    Args:
        gamma: weight of both penalties, constant or a function of the images seen.
        penalise_every: batches from one with penalties to the next; their weight is multiplied by it. This is the lazy
            regularisation of StyleGAN2 (Karras et al. 2020, arXiv:1912.04958, appendix B). R3GAN uses 1.

    Raises:
        UserError: `penalise_every` is less than 1.
    """

    double_backward = True

    def __init__(self, gamma: float | Cosine = 1.0, penalise_every: int = 1) -> None:
        check_at_least("penalise_every", penalise_every, 1)
        self.gamma = gamma
        self.penalise_every = penalise_every

    def discriminator_loss(
        self, discriminator: Discriminator, real: Tensor, fake: Tensor, images_seen: int, batch: int = 0
    ) -> Tensor:
        """-log sigmoid(D(x) - D(G(z))) + gamma / 2 (||grad D(x)||^2 + ||grad D(G(z))||^2)."""
        if batch % self.penalise_every:
            return softplus(discriminator(fake) - discriminator(real))
        gamma = self.gamma(images_seen) if isinstance(self.gamma, Cosine) else self.gamma
        return self.penalised_loss(discriminator, real, fake, gamma * self.penalise_every)

    def penalised_loss(self, discriminator: Discriminator, real: Tensor, fake: Tensor, gamma: float) -> Tensor:
        """The loss (N,) with both penalties, weighted by `gamma`."""
        real, fake = (exact(images).requires_grad_() for images in (real, fake))
        real_logits, fake_logits = discriminator(real), discriminator(fake)
        r1 = gradient(real_logits, real).square().sum(dim=1)
        r2 = gradient(fake_logits, fake).square().sum(dim=1)
        return softplus(fake_logits - real_logits) + 0.5 * gamma * (r1 + r2)

    def generator_loss(self, discriminator: Discriminator, real: Tensor, fake: Tensor) -> Tensor:
        """-log sigmoid(D(G(z)) - D(x))."""
        with torch.no_grad():
            real_logits = discriminator(real)
        return softplus(real_logits - discriminator(fake))

    def realness(self, logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Mean over generated images of sigmoid(D(x) - D(G(z))): the probability that x is the real one of the pair."""
        return torch.sigmoid(logits[:, None] - fake_logits).mean(dim=1)


def exact(images: Tensor) -> Tensor:
    """The images without gradient, in float32 at least: under autocast the generator returns bfloat16."""
    return images.detach().to(torch.promote_types(images.dtype, torch.float32))


def gradient(logits: Tensor, images: Tensor) -> Tensor:
    """d logits / d images (N, pixels) in float32, differentiable again."""
    (grad,) = torch.autograd.grad(logits.float().sum(), images, create_graph=True)
    return grad.float().flatten(1)
