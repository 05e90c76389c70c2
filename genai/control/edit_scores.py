"""How well edits work, read by a predictor: success, change of other attributes, distance, FID; beside controls."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from genai.control.directions import Direction, random_directions
from genai.control.predictors import AttributePredictor
from genai.control.spaces import EditSpace, Points
from genai.errors import UserError
from genai.images import to_uint8
from genai.metrics.fid import frechet_distance

STEPS = tuple(0.25 * i for i in range(1, 13))  # in units of the direction
BOTH_WAYS = (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5)  # steps over which an attribute should rise
NUM_MONOTONE = 100  # points of `monotonicity`


class Edited(NamedTuple):
    """Faces before and after edits of one attribute.

    images: uint8 (N, C, H, W) after the edit.
    scores: of the predictor after the edit, (N, K).
    steps: the smallest step that changes the attribute (N,); NaN where none does, and then `images` are of the largest step.
    """

    images: Tensor
    scores: Tensor
    steps: Tensor


class EditScore(NamedTuple):
    """How well edits of one attribute work, over N images.

    success: share of images whose attribute changes.
    step: median of the smallest steps that change it, in units of the direction; NaN for conditional models.
    changed: share of images that change each attribute (K,), itself included.
    distance: mean feature distance between the image before and after, relative to that of two random images.
    monotone: see `monotonicity`; NaN for conditional models.
    """

    success: float
    step: float
    changed: Tensor
    distance: float
    monotone: float = float("nan")

    def worst(self, allowed: Tensor, names: Sequence[str]) -> tuple[float, str]:
        """The largest change of an attribute that is not `allowed` (K,) bool to change, and its name."""
        changed = self.changed.masked_fill(allowed, -1)
        k = int(changed.argmax())
        return (float(changed[k]), names[k]) if changed[k] >= 0 else (0.0, "none")


class Before(NamedTuple):
    """Images before their edits: uint8 (N, C, H, W), their scores (N, K) and features (N, D)."""

    images: Tensor
    scores: Tensor
    features: Tensor


def before_edits(images: Tensor, predictor: AttributePredictor) -> Before:
    """What the predictor reads from uint8 images (N, C, H, W)."""
    return Before(images, predictor.scores(images), predictor.embed(images))


def walk(
    space: EditSpace, points: Points, before: Before, vector: Tensor, attribute: int, predictor: AttributePredictor
) -> Edited:
    """Move each point along `vector` (E,), of the length of a step of 1, until the predictor sees the attribute change.

    Images that have the attribute are moved backwards, to lose it.
    """
    had = before.scores[:, attribute] > 0
    sign = torch.where(had, -1.0, 1.0)[:, None].to(points.x)
    images, scores = before.images.clone(), before.scores.clone()
    steps = torch.full((len(had),), float("nan"))
    active = torch.arange(len(had))
    for step in STEPS:
        rows = active.to(points.x.device)
        images[active] = to_uint8(space.decode(points[rows].moved(step * sign[rows] * vector.to(points.x))))
        scores[active] = predictor.scores(images[active])
        changes = (scores[active, attribute] > 0) != had[active]
        steps[active[changes]] = step
        active = active[~changes]
        if not len(active):
            break
    return Edited(images, scores, steps)


def score_edits(before: Before, after: Edited, predictor: AttributePredictor, attribute: int) -> EditScore:
    """Success, changes and distance of edits of one attribute."""
    changed = ((after.scores > 0) != (before.scores > 0)).float().mean(dim=0)
    moved = (predictor.embed(after.images) - before.features).norm(dim=1).mean()
    apart = (before.features - before.features.roll(1, dims=0)).norm(dim=1).mean()
    step = after.steps[~after.steps.isnan()]
    median = float(step.median()) if len(step) else float("nan")
    return EditScore(float(changed[attribute]), median, changed, float(moved / apart))


def monotonicity(space: EditSpace, points: Points, vector: Tensor, attribute: int, predictor: AttributePredictor) -> float:
    """Spearman's correlation of the step along `vector` (E,) and the score of the attribute, mean over points: -1 to 1."""
    scores = [predictor.scores(to_uint8(space.decode(points.moved(step * vector))))[:, attribute] for step in BOTH_WAYS]
    ranks = rankdata(torch.stack(scores).numpy(), axis=0)  # (steps, N), as steps are equidistant
    centred = ranks - ranks.mean(axis=0)
    steps = np.arange(len(BOTH_WAYS)) - (len(BOTH_WAYS) - 1) / 2
    norms = np.linalg.norm(centred, axis=0) * np.linalg.norm(steps)
    return float(np.mean(steps @ centred / np.maximum(norms, 1e-12)))


class Measured(NamedTuple):
    """Scores of edits, by attribute, and the edited images of all of them."""

    scores: dict[str, EditScore]
    images: Tensor


def measure_directions(
    space: EditSpace, points: Points, before: Before, directions: Sequence[Direction], predictor: AttributePredictor
) -> Measured:
    """The scores of directions named after attributes of the predictor."""
    scores, images = {}, []
    for direction in directions:
        k = predictor.index(direction.name)
        vector = direction.vector * direction.unit
        after = walk(space, points, before, vector, k, predictor)
        monotone = monotonicity(space, points[:NUM_MONOTONE], vector, k, predictor)
        scores[direction.name] = score_edits(before, after, predictor, k)._replace(monotone=monotone)
        images.append(after.images)
    return Measured(scores, torch.cat(images))


def as_random(directions: Sequence[Direction], seed: int = 1) -> list[Direction]:
    """Directions of the same names and lengths that point at random: the floor."""
    vectors = random_directions(len(directions), len(directions[0].vector), seed)
    return [one._replace(kind="random", vector=vector) for one, vector in zip(directions, vectors, strict=True)]


def flipped_labels(labels: Tensor, k: int, exclusive: Tensor) -> Tensor:
    """Labels with attribute k changed: (N, K) attributes 0 or 1, or (N,) classes.

    An attribute that is set clears those that exclude it. Images of class k get the next class, the others class k.

    Args:
        labels: (N, K) float or (N,) int64.
        k: number of an attribute or class.
        exclusive: (K, K) bool, of the model's labels.
    """
    if labels.ndim == 1:
        return torch.where(labels == k, (k + 1) % len(exclusive), k)
    result = labels.clone()
    result[:, k] = 1 - labels[:, k]
    others = exclusive[k].clone()
    others[k] = False
    result[:, others] = result[:, others] * (1 - result[:, k : k + 1])
    return result


def edited_fid(edited: Tensor, real: Tensor, num: int, predictor: AttributePredictor) -> float:
    """FID of `num` of the edited images, uint8, against features (M, D) of real images; the number changes the FID.

    Raises:
        UserError: there are fewer than two images.
    """
    if num < 2:
        raise UserError("an FID needs two images at least: use --num 2 or more")
    rows = torch.linspace(0, len(edited) - 1, num).round().long()
    return frechet_distance(predictor.embed(edited[rows]), real)
