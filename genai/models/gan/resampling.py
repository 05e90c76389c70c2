"""Which of several images from one seed to keep: what the discriminator has learned, used once more when drawing."""

from dataclasses import dataclass

from torch import Tensor

from genai.errors import UserError


@dataclass(frozen=True)
class Resampling:
    """Sampling importance resampling: one of `num_candidates` images is kept, in proportion to exp(sharpness D).

    The best logit D of the non-saturating and of the relativistic game is the logarithm of p(x) / q(x), of real over generated
    density, up to a constant; then `sharpness` 1 and many candidates give images distributed as real ones (Azadi et al. 2018,
    arXiv:1810.06758, section 3; Turner et al. 2018, arXiv:1811.11357). A discriminator that gradient penalties hold flat says
    less than it knows; a larger `sharpness` makes up for it.

    Args:
        num_candidates: images drawn for each one kept.
        sharpness: factor on the logits; 0 keeps any of them.
    """

    num_candidates: int
    sharpness: float = 1.0

    def __post_init__(self) -> None:
        if self.num_candidates < 1 or self.sharpness < 0:
            raise UserError(
                f"resampling among {self.num_candidates} candidates with sharpness {self.sharpness} is not possible: "
                "use num_candidates of 1 or more and a sharpness of 0 or more"
            )

    def choose(self, logits: Tensor, uniform: Tensor) -> Tensor:
        """Logits (N, num_candidates) and numbers (N,) in [0, 1] that decide -> the index of the one kept, (N,)."""
        shares = (self.sharpness * logits.double()).softmax(dim=1).cumsum(dim=1)
        return (shares < uniform.double()[:, None]).sum(dim=1).clamp(max=self.num_candidates - 1)
