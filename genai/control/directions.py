"""Directions in a latent space: supervised (InterFaceGAN) and unsupervised (SeFa, GANSpace), each beside a random one."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from genai.control.spaces import EditSpace, Points, first_layer
from genai.errors import UserError

HELD_OUT = 4  # one of so many points is held out
FEWEST = 8  # points with and without an attribute that a direction needs
LEAST_LEFT = 0.7  # cosine of a direction and the normal that it is made of
NUM_RANDOM = 20  # random directions whose mean AUC is the floor


class Direction(NamedTuple):
    """A direction of a space.

    name: the attribute, or such as `sefa-1`.
    kind: `supervised`, `sefa`, `ganspace` or `random`.
    vector: unit vector (E,) float32.
    unit: length of a step of 1. Supervised: it moves the mean of the points without the attribute to that of those with it,
        along the normal of the classifier. Unsupervised: the standard deviation of the points along the direction.
    attribute: whose presence the direction predicts best; for a supervised one its own.
    auc: area under the ROC curve of that prediction for held-out points, 0.5 to 1 for unsupervised directions.
    random_auc: the same of random directions, a mean: for that attribute, or of the best attribute for unsupervised ones.
    """

    name: str
    kind: str
    vector: Tensor
    unit: float
    attribute: str
    auc: float
    random_auc: float


class Scored(NamedTuple):
    """Points (N, E) and the predictor's scores (N, K) of their images; positive where the image has the attribute."""

    x: Tensor
    scores: Tensor
    attributes: Sequence[str]

    def split(self) -> tuple["Scored", "Scored"]:
        """The points to fit to, and the held-out ones."""
        held_out = torch.arange(len(self.x)) % HELD_OUT == HELD_OUT - 1
        parts = (Scored(self.x[rows], self.scores[rows], self.attributes) for rows in (~held_out, held_out))
        return next(parts), next(parts)


def area_under_roc(values: Tensor, labels: Tensor) -> np.ndarray:
    """AUC (K,) of values (N,) for each column of labels (N, K) bool: the Mann-Whitney statistic; NaN if all labels agree.

    scikit-learn's `roc_auc_score` gives the same, some 20 ms for each column; there are hundreds.
    """
    ranks = rankdata(values.numpy())  # ties have their mean rank
    positives = labels.double().numpy()
    num = positives.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((ranks @ positives - num * (num + 1) / 2) / (num * (len(ranks) - num)))


def random_directions(num: int, width: int, seed: int = 0) -> Tensor:
    """Unit vectors (num, width), uniform on the sphere."""
    rows = torch.randn(num, width, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=1)


# -- supervised: Shen et al. 2020, InterFaceGAN, arXiv:1907.10786 --------------------------------------------------------


def normal_of(x: Tensor, labels: Tensor) -> Tensor:
    """Unit normal (E,) of the hyperplane that separates points (N, E) by labels (N,), by logistic regression."""
    from sklearn.linear_model import LogisticRegression

    scale = x.std().clamp(min=1e-12)
    model = LogisticRegression(C=0.05, class_weight="balanced", max_iter=500)
    model.fit(((x - x.mean(dim=0)) / scale).numpy(), labels.numpy())
    return torch.nn.functional.normalize(torch.from_numpy(model.coef_[0]).float(), dim=0)


def without(vector: Tensor, others: Tensor) -> Tensor:
    """What is left of the unit vector `vector` (E,) outside the span of unit vectors `others` (M, E): conditional manipulation.

    Equation 4 of the paper for one other normal, its projection onto the span for several, normalised. The most similar normals
    come first; those that would leave a cosine of less than LEAST_LEFT are kept, because little of the attribute would be left
    in a space of few dimensions.
    """
    result = vector
    order = (others @ vector).abs().argsort(descending=True)
    for num in range(1, len(others) + 1):
        basis = torch.linalg.qr(others[order[:num]].double().T).Q  # (E, num)
        rest = vector.double() - basis @ (basis.T @ vector.double())
        if rest.norm() < LEAST_LEFT:
            break
        result = torch.nn.functional.normalize(rest, dim=0).float()
    return result


def supervised(scored: Scored, exclusive: Tensor, wanted: Sequence[str]) -> tuple[list[Direction], list[str]]:
    """A direction for each wanted attribute, and a line for each that too few of the images have, or lack.

    Args:
        scored: points and the scores of their images.
        exclusive: (K, K) bool; the normals of attributes that exclude the wanted one are not projected out, because it has to
            change them.
        wanted: names of attributes.
    """
    fitted, held_out = scored.split()
    normals, skipped = {}, []
    for k, name in enumerate(scored.attributes):
        present = fitted.scores[:, k] > 0
        fewest = min(int(present.sum()), int((~present).sum()))
        if fewest >= FEWEST:
            normals[k] = normal_of(fitted.x, present)
        elif name in wanted:
            which = "have" if int(present.sum()) == fewest else "lack"
            skipped.append(f"no direction for {name}: {fewest} of {len(present):,} samples {which} it")
    directions = []
    floor = random_directions(NUM_RANDOM, scored.x.shape[1])
    for k, normal in normals.items():
        name = scored.attributes[k]
        if name in wanted:
            others = [other for j, other in normals.items() if not exclusive[k, j]]
            vector = without(normal, torch.stack(others)) if others else normal
            present = fitted.scores[:, k] > 0
            along = fitted.x @ normal
            unit = float((along[present].mean() - along[~present].mean()) / (vector @ normal))
            labels = held_out.scores[:, k : k + 1] > 0
            auc = float(area_under_roc(held_out.x @ vector, labels)[0])
            randoms = [best_attribute(held_out.x @ one, labels)[1] for one in floor]
            random_auc = float(np.mean(randoms))
            directions.append(Direction(name, "supervised", vector, unit, name, auc, random_auc))
    return directions, skipped


# -- unsupervised --------------------------------------------------------------------------------------------------------


def sefa(weight: Tensor, num: int) -> Tensor:
    """Unit vectors (num, E) that the first layer changes most (Shen & Zhou 2021, SeFa, arXiv:2007.06600, equation 6).

    Args:
        weight: (E, F), from the point to the outputs of the layer; its columns are normalised, as in the authors' code.
        num: number of eigenvectors of A A^T, those of the largest eigenvalues first.
    """
    columns = torch.nn.functional.normalize(weight.double(), dim=0)
    _, vectors = torch.linalg.eigh(columns @ columns.T)  # ascending
    return vectors.flip(1).T[:num].float()


def ganspace(x: Tensor, activations: Tensor, num: int) -> Tensor:
    """Unit vectors (num, E) of the largest variance (Härkönen et al. 2020, GANSpace, arXiv:2004.02546, section 2.1).

    Args:
        x: points (N, E).
        activations: (N, F) whose principal components are transferred to the points by least squares; `x` itself in W.
        num: number of components.
    """
    x, activations = (x - x.mean(dim=0)).double(), (activations - activations.mean(dim=0)).double()
    _, _, components = torch.linalg.svd(activations, full_matrices=False)  # (min(N, F), F)
    coordinates = activations @ components[:num].T  # (N, num)
    coordinates = coordinates / coordinates.std(dim=0)
    solution = torch.linalg.lstsq(coordinates, x).solution  # (num, E): argmin ||x - coordinates U||
    return torch.nn.functional.normalize(solution, dim=1).float()


def unsupervised(space: EditSpace, points: Points, images: Tensor, scored: Scored, num: int) -> list[Direction]:
    """`num` directions of SeFa, if the decoder has a first layer, and `num` of GANSpace.

    Args:
        space, points, images: of the samples; for a decoder without a first layer, GANSpace takes the images as activations.
        scored: the same points, with the scores of their images.
        num: of each kind.
    """
    layer = first_layer(space, points)
    if num > points.x.shape[1]:
        raise UserError(f"--unsupervised {num} is more than the {points.x.shape[1]} dimensions of the latent space: use fewer")
    if len(points.x) <= num + 1:
        raise UserError(f"{len(points.x)} samples are too few for {num} principal components: use a larger --num")
    vectors = {} if layer is None else {"sefa": sefa(layer.weight, num)}
    x = points.x.cpu()
    activations = x if space.name == "w" else images.flatten(1) if layer is None else layer.outputs(points)
    vectors["ganspace"] = ganspace(x, activations, num)
    labels = scored.split()[1].scores > 0
    held_out = scored.split()[1].x
    floors = [best_attribute(held_out @ one, labels)[1] for one in random_directions(NUM_RANDOM, x.shape[1])]
    directions = []
    for kind, rows in vectors.items():
        for i, vector in enumerate(rows):
            k, auc = best_attribute(held_out @ vector, labels)
            unit = float((x @ vector).std())
            name = f"{kind}-{i + 1}"
            directions.append(Direction(name, kind, vector, unit, scored.attributes[k], auc, float(np.mean(floors))))
    return directions


def best_attribute(values: Tensor, labels: Tensor) -> tuple[int, float]:
    """The number of the attribute of labels (N, K) that values (N,) predict best, in either sense, and the AUC."""
    areas = np.nan_to_num(area_under_roc(values, labels), nan=0.5)
    either = np.maximum(areas, 1 - areas)
    return int(either.argmax()), float(either.max())
