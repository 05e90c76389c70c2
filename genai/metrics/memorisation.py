"""Does a model copy its training images? Nearest neighbours of its samples, and membership inference."""

from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata, ttest_ind

NUM_REPLICATES = 2000
COPY_RATIO = 1 / 3  # Yoon et al. 2023, "Diffusion probabilistic models generalize when they fail to memorize"
FALSE_POSITIVES = 0.01


class NearestShare(NamedTuple):
    """Share of samples whose nearest real image is a training image.

    share: of the samples.
    chance: expected if the samples do not depend on which of the real images were training images.
    low, high: interval (95 %) of the share by chance.
    p_value: that the share is so large by chance.
    """

    share: float
    chance: float
    low: float
    high: float
    p_value: float


class Membership(NamedTuple):
    """How well a score of an image says whether it was a training image.

    member, other: mean score of training and of held-out images.
    auc: probability that a training image has a lower score than a held-out one; 0.5 is chance.
    low, high: interval of the AUC (95 %, bootstrap).
    found: share of the training images found at 1 % false positives (Carlini et al. 2022, arXiv:2112.03570).
    p_value: of equal means (Welch's t-test).
    """

    member: float
    other: float
    auc: float
    low: float
    high: float
    found: float
    p_value: float


def nearest_share(
    train: np.ndarray, train_rows: np.ndarray, held: np.ndarray, held_rows: np.ndarray, sizes: tuple[int, int], seed: int = 0
) -> NearestShare:
    """Compare the distances of N samples to their nearest training image and to their nearest held-out image.

    The null hypothesis is that training and held-out images are exchangeable for the samples. Its replicates choose at random
    which of the real images were training images, so it takes into account that some images are near many samples. Only the
    nearest real image of a sample counts, so the distribution of the share is that of a sum without replacement.

    Args:
        train, held: distances (N,) to the nearest training image and the nearest held-out image.
        train_rows, held_rows: their rows in the split, (N,) int64.
        sizes: number of training and of held-out images.
        seed: of the replicates.
    """
    is_train = train < held
    num_train, num_held = sizes
    nearest = np.where(is_train, train_rows, num_train + held_rows)
    weights = np.unique(nearest, return_counts=True)[1] / len(
        train
    )  # share of the samples at each image that is nearest to any
    random = np.random.default_rng(seed)
    null = np.empty(NUM_REPLICATES)
    for i in range(NUM_REPLICATES):  # labels of the images with a weight; the other images only use up labels
        chosen = random.permutation(num_train + num_held)[: len(weights)] < num_train
        null[i] = weights[chosen].sum()
    share = float(is_train.mean())
    low, high = np.quantile(null, [0.025, 0.975])
    p_value = (1 + (null >= share - 1e-12).sum()) / (1 + NUM_REPLICATES)
    return NearestShare(share, num_train / (num_train + num_held), float(low), float(high), float(p_value))


def share_of_copies(distances: np.ndarray) -> float:
    """Share of images that are much nearer to one training image than to the next: distances (N, 2), ascending."""
    return float((distances[:, 0] < COPY_RATIO * distances[:, 1]).mean())


def membership(members: np.ndarray, others: np.ndarray, seed: int = 0) -> Membership:
    """Compare a score, lower for images that the model knows, of training images (N,) and of held-out images (M,)."""
    random = np.random.default_rng(seed)
    replicates = [
        auc(random.choice(members, len(members)), random.choice(others, len(others))) for _ in range(NUM_REPLICATES // 4)
    ]
    low, high = np.quantile(replicates, [0.025, 0.975])
    threshold = np.quantile(others, FALSE_POSITIVES, method="lower")
    return Membership(
        member=float(members.mean()),
        other=float(others.mean()),
        auc=auc(members, others),
        low=float(low),
        high=float(high),
        found=float((members < threshold).mean()),
        p_value=float(ttest_ind(members, others, equal_var=False).pvalue),
    )


def auc(members: np.ndarray, others: np.ndarray) -> float:
    """The probability that a value of `members` (N,) is below one of `others` (M,), ties counted half: Mann and Whitney's U."""
    ranks = rankdata(np.concatenate([others, members]))[: len(others)]
    return float((ranks.sum() - len(others) * (len(others) + 1) / 2) / (len(members) * len(others)))
