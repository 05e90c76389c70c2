"""Discriminator resampling: several candidates per seed are generated, and the discriminator keeps one."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from genai.errors import check_at_least
from genai.models.gan.latents import LatentLayout
from genai.models.seeds import SeededRandom


@dataclass(frozen=True)
class Resampling:
    """Sampling importance resampling: one of `num_candidates` images is kept, in proportion to exp(sharpness D).

    The optimal logit D of the non-saturating and of the relativistic objective is ln p(x) - ln q(x), the log ratio of real to
    generated density, up to a constant. With it, `sharpness` 1 and many candidates give images distributed as real ones (Azadi
    et al. 2018, arXiv:1810.06758, section 3; Turner et al. 2018, arXiv:1811.11357). Gradient penalties flatten the
    discriminator, which then underestimates the ratio; a larger `sharpness` compensates.

    Args:
        num_candidates: images generated for each one kept.
        sharpness: factor on the logits; 0 keeps any candidate with equal probability.

    Raises:
        UserError: `num_candidates` is less than 1, or `sharpness` is negative.
    """

    num_candidates: int
    sharpness: float = 1.0

    def __post_init__(self) -> None:
        check_at_least("num_candidates", self.num_candidates, 1)
        check_at_least("sharpness", self.sharpness, 0)

    def choose(self, logits: Tensor, uniform: Tensor) -> Tensor:
        """Logits (N, num_candidates) and uniform numbers (N,) in [0, 1] -> the index of the candidate kept, (N,)."""
        probabilities = (self.sharpness * logits.double()).softmax(dim=1).cumsum(dim=1)
        return (probabilities < uniform.double()[:, None]).sum(dim=1).clamp(max=self.num_candidates - 1)

    def sample(
        self, random: SeededRandom, layout: LatentLayout, generator: nn.Module, discriminator: nn.Module, labels: Tensor | None
    ) -> Tensor:
        """One image per row of `random`, (N, C, H, W), of the labels (N,) or (N, K) of a conditional GAN."""
        noise = random.normal((self.num_candidates, layout.noise_dim))  # (N, candidates, noise_dim)
        noise[:, :, layout.z_dim :] = noise[:, :1, layout.z_dim :]  # candidates differ in z alone: logits compare one condition
        inputs = [layout.network_inputs(layout.from_noise(candidate), labels) for candidate in noise.unbind(dim=1)]
        images = torch.stack([generator(z, condition) for z, condition in inputs], dim=1)  # (N, candidates, C, H, W)
        pairs = zip(images.unbind(dim=1), inputs, strict=True)
        logits = torch.stack([discriminator(x, condition) for x, (_, condition) in pairs], dim=1)  # (N, candidates)
        return images[torch.arange(len(images)), self.choose(logits, random.uniform(()))]


def with_candidates(resampling: Resampling | None, num_candidates: int | None) -> Resampling | None:
    """`resampling` with another number of candidates, if one is given; None for a single candidate."""
    if num_candidates is None:
        return resampling
    sharpness = 1.0 if resampling is None else resampling.sharpness
    return Resampling(num_candidates, sharpness) if num_candidates > 1 else None
