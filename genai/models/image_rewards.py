"""Rewards of images: small classes that a YAML file names; a function of your own works too.

A reward maps images (N, C, H, W) in [-1, 1] and their condition, (N,) classes or (N, K) attributes, to (N,) numbers; higher is
better.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from genai.errors import UserError
from genai.models.base import Model
from genai.models.capabilities import Classifies

ImageReward = Callable[[Tensor, Tensor | None], Any]  # -> Tensor; the YAML's parser would read it as a factory of tensors


class LabelProbability:
    """The probability that a classifier gives the condition: of the class, or the mean over the attributes.

    Score the samples with another network: what only this classifier mistakes for the label has a high reward too.

    With a threshold t the reward is 1 where the probability is at least t, otherwise 0. It does not favour a typical sample
    over another good one, so that samples keep their variety: with a small KL penalty the best model is the reference model,
    conditional on p >= t.

    Args:
        run: of a classifier, such as of configs/digits/classifier.yaml. Without the command line, call `use`.
        threshold: t in (0, 1]; None for the probability itself.

    Raises:
        UserError: the threshold is out of range.
    """

    def __init__(self, run: str, threshold: float | None = None) -> None:
        if threshold is not None and not 0 < threshold <= 1:
            raise UserError(f"threshold {threshold} is out of range: use 0 < threshold <= 1, or null for the probability")
        self.run = run
        self.threshold = threshold
        self.model: Classifies | None = None

    def use(self, model: Model) -> None:
        """Take the model of the run; UserError for one that is no classifier."""
        if not isinstance(model, Classifies):
            raise UserError(f"{self.run} is a {type(model).__name__}, and the reward needs a classifier: name its run")
        self.model = model.eval()

    @torch.no_grad()
    def __call__(self, images: Tensor, labels: Tensor | None) -> Tensor:
        if labels is None:
            raise UserError("the reward LabelProbability needs a conditional model: set model.init_args.conditional to true")
        if self.model is None:
            raise UserError(f"the reward has no classifier: load the run {self.run} and pass it to `use`")
        self.model.to(images.device)  # type: ignore[attr-defined]
        p = self.model.predict(images)
        self.check_labels(labels, p.shape[1])
        p = p.gather(1, labels[:, None]) if labels.ndim == 1 else torch.where(labels > 0.5, p, 1 - p)  # (N, 1) or (N, K)
        return (p if self.threshold is None else (p >= self.threshold).float()).mean(dim=1)

    def check_labels(self, labels: Tensor, num: int) -> None:
        """Raise UserError unless the condition can be labels of the classifier, which has `num` outputs."""
        has_attributes = getattr(self.model, "attributes", labels.ndim == 2)
        fits = labels.shape[1] == num if labels.ndim == 2 else int(labels.max()) < num
        if not fits or has_attributes != (labels.ndim == 2):
            raise UserError(
                f"the classifier {self.run} of the reward has {num} {'attributes' if has_attributes else 'classes'}, and the "
                "model another condition: name the run of a classifier of the same labels"
            )


class StrokeThickness:
    """Thickness of white strokes on black, in pixels: twice the area, divided by the perimeter. No network is needed.

    The area is the sum of the brightness in [0, 1], the perimeter its total variation: both are exact for a stroke of straight
    horizontal and vertical edges; a stroke of w pixels and of length l >> w has area l w and perimeter 2 l.

    Args:
        thickest: a thicker stroke has no higher reward; None for no limit.
    """

    def __init__(self, thickest: float | None = None) -> None:
        self.thickest = thickest

    def __call__(self, images: Tensor, labels: Tensor | None) -> Tensor:
        ink = torch.nn.functional.pad((images + 1) / 2, (1, 1, 1, 1))  # (N, C, H + 2, W + 2), black outside
        perimeter = sum(ink.diff(dim=dim).abs().sum(dim=(1, 2, 3)) for dim in (2, 3))
        thickness = 2 * ink.sum(dim=(1, 2, 3)) / torch.as_tensor(perimeter).clamp(min=1e-6)
        return thickness if self.thickest is None else thickness.clamp(max=self.thickest)


class Symmetry:
    """How symmetric an image is under reflection in its vertical axis, 0 to 1: 1 - sum |x - x'| / sum (x + x')."""

    def __call__(self, images: Tensor, labels: Tensor | None) -> Tensor:
        ink = (images + 1) / 2
        difference = (ink - ink.flip(3)).abs().sum(dim=(1, 2, 3))
        return 1 - difference / (2 * ink.sum(dim=(1, 2, 3))).clamp(min=1e-6)
