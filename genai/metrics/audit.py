"""Shares of classes or attributes among samples, corrected for the errors of the network that classifies them.

A network that takes 5 % of the images of a frequent class for another one inflates the share of that other one. Its confusion
matrix on labelled images that it was not trained on says how often this happens, so that the true shares can be estimated
(CLEAM, Teo et al. 2023, arXiv:2310.19297, corrects the same error).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from genai.errors import UserError

NUM_REPLICATES = 1000  # of the bootstrap and of the test; 50 for each cell, if that is more, since Holm multiplies by the cells
MAX_CELLS = 100
COVERAGE = 0.95
ITERATIONS, TOLERANCE = 500, 1e-6  # of expectation maximisation


class Cells(NamedTuple):
    """The exclusive groups of one question, such as ten classes, or the four combinations of two attributes; M cells.

    names: of the cells, M of them.
    train: the cell of each training image, by its label, (T,) int64.
    test: the cell of each held-out image, by its label, (V,) int64.
    test_predicted: the same by the network, (V,) int64.
    predicted: the cell of each sample by the network, (N,) int64.
    """

    names: Sequence[str]
    train: np.ndarray
    test: np.ndarray
    test_predicted: np.ndarray
    predicted: np.ndarray


class ShareAudit(NamedTuple):
    """The shares of M cells among the training images and among the samples; all arrays are (M,) float64.

    train: share among the training images.
    predicted: share among the samples, as the network classifies them.
    share, low, high: the corrected share and its interval (95 %).
    p_values: of each cell, that its share equals that of the training images, adjusted for M cells (Holm 1979).
    p_value: that all shares equal those of the training images.
    """

    train: np.ndarray
    predicted: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p_values: np.ndarray
    p_value: float


def audit_cells(cells: Cells, seed: int = 0, expected: Sequence[float] | np.ndarray | None = None) -> ShareAudit:
    """Compare the shares of the samples with those of the training images.

    Intervals are percentiles of a bootstrap over the samples and over the held-out images of the confusion matrix; the upper
    limit of a cell without samples is exact (`limit_of_unseen`), divided by the network's accuracy in this cell. The tests
    are parametric bootstraps: their replicates are samples of a model with the shares of the training images, classified with
    a resampled confusion matrix. Their smallest p-value is 1 / 1,001, with more than 20 cells 1 / (50 M + 1).

    Args:
        cells: the labels and the predictions.
        seed: of the replicates.
        expected: shares (M,) to compare with instead of those of the training images, such as equal ones.

    Raises:
        UserError: there are more than 100 cells.
    """
    num, num_cells = len(cells.predicted), len(cells.names)
    if num_cells > MAX_CELLS:
        raise UserError(f"an audit of {num_cells:,} classes is too large: use data of at most {MAX_CELLS}")
    num_replicates = max(NUM_REPLICATES, 50 * num_cells)
    random = np.random.default_rng(seed)
    train = np.bincount(cells.train, minlength=num_cells) / len(cells.train)
    null = train if expected is None else np.asarray(expected) / np.sum(expected)
    counts = np.bincount(cells.predicted, minlength=num_cells)
    errors = confusion_counts(cells.test, cells.test_predicted, num_cells)
    confusion = errors / errors.sum(axis=1, keepdims=True)
    share = corrected_shares(counts[None], confusion[None])[0]
    resampled = np.stack(
        [random.multinomial(n, row, num_replicates) / n for n, row in zip(errors.sum(axis=1), confusion, strict=True)], 1
    )  # (B, M, M)
    replicates = corrected_shares(random.multinomial(num, counts / num, num_replicates), resampled)
    low, high = np.quantile(replicates, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2], axis=0)
    unseen = counts == 0  # cells that the bootstrap never draws
    high[unseen] = np.minimum(1.0, limit_of_unseen(num) / confusion.diagonal()[unseen])
    low[counts == num] = 1 - high[unseen].max(initial=0.0)
    seen = normalised(null @ resampled)  # what the network would say of samples with the shares of `null`
    under_null = corrected_shares(random.multinomial(num, seen), np.broadcast_to(confusion, resampled.shape))
    scale = np.maximum(null, 0.5 / num)
    distance, null_distance = np.abs(share - null), np.abs(under_null - null)
    chi_squared, null_chi_squared = ((d**2 / scale).sum(axis=-1) for d in (distance, null_distance))
    return ShareAudit(
        train=train,
        predicted=counts / num,
        share=share,
        low=low,
        high=high,
        p_values=holm(upper_tail(distance, null_distance)),
        p_value=float(upper_tail(chi_squared, null_chi_squared)),
    )


def limit_of_unseen(num: int) -> float:
    """Exact upper limit (95 % interval) of the share of a cell that none of `num` samples is in.

    Clopper and Pearson 1934, for 0 of N: 1 - 0.025 ** (1 / N).
    """
    return float(1 - ((1 - COVERAGE) / 2) ** (1 / num))


def confusion_counts(labels: np.ndarray, predicted: np.ndarray, num_cells: int) -> np.ndarray:
    """How many images of cell i, by their labels (V,), the network puts into cell j, by `predicted` (V,): (M, M) int64.

    One image of each cell that is classified correctly is added, so that a cell without held-out images has a row.
    """
    counts = np.bincount(labels * num_cells + predicted, minlength=num_cells**2).reshape(num_cells, num_cells)
    return counts + np.eye(num_cells, dtype=np.int64)


def corrected_shares(counts: np.ndarray, confusion: np.ndarray) -> np.ndarray:
    """The most likely true shares, given what a network with known errors predicts.

    Expectation maximisation of the multinomial likelihood (Saerens et al. 2002, "Adjusting the outputs of a classifier to new a
    priori probabilities"): unlike the inverse of the confusion matrix it never leaves the simplex.

    Args:
        counts: predicted counts (B, M).
        confusion: probability of predicting cell j for an image of cell i, (B, M, M).

    Returns:
        (B, M), rows that sum to 1.
    """
    observed = normalised(counts)
    shares = normalised(observed + 1e-6)
    for _ in range(ITERATIONS):
        expected = np.einsum("bi,bij->bj", shares, confusion)
        ratio = np.divide(observed, expected, out=np.zeros_like(expected), where=expected > 0)
        updated = normalised(shares * np.einsum("bij,bj->bi", confusion, ratio))
        step = np.abs(updated - shares).max()
        shares = updated
        if step < TOLERANCE:
            break
    return shares


def normalised(values: np.ndarray) -> np.ndarray:
    """Values (..., M) divided by their sum."""
    result: np.ndarray = values / values.sum(axis=-1, keepdims=True)
    return result


def upper_tail(value: np.ndarray, replicates: np.ndarray) -> np.ndarray:
    """The p-value of `value` (...): the share of replicates (B, ...) that are as large, the value itself included."""
    result: np.ndarray = (1 + (replicates >= value - 1e-12).sum(axis=0)) / (1 + len(replicates))
    return result


def holm(p_values: np.ndarray) -> np.ndarray:
    """p-values (M,), adjusted so that a threshold bounds the probability of any false positive among the M (Holm 1979)."""
    order = np.argsort(p_values)
    adjusted = np.minimum(1.0, np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1)))
    result = np.empty_like(adjusted)
    result[order] = adjusted
    return result
