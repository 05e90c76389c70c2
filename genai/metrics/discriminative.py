"""Classification: Bayes' rule for generative models, baselines of scikit-learn, accuracy and calibration."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

CALIBRATION_BINS = 15
COMPONENTS = 40  # principal components that QDA is fitted on


class Classification(NamedTuple):
    """Accuracy and expected calibration error, each in [0, 1]."""

    accuracy: float
    calibration_error: float


class Reliability(NamedTuple):
    """Mean confidence and accuracy of the predictions in each bin of confidence that has at least 5, (B,) each."""

    confidence: np.ndarray
    accuracy: np.ndarray


def posterior(log_likelihood: Tensor, prior: Tensor) -> Tensor:
    """Bayes' rule: ln p(x|y) (N, K) and p(y) (K,) -> p(y|x) (N, K)."""
    return log_posterior(log_likelihood, prior).exp()


def log_posterior(log_likelihood: Tensor, prior: Tensor) -> Tensor:
    """`posterior` in logarithms, for texts, whose likelihoods differ by hundreds of nats: ln p(y|x) (N, K)."""
    return (log_likelihood + prior.to(log_likelihood).log()).log_softmax(dim=1)


def classification(probabilities: Tensor, labels: Tensor) -> Classification:
    """Accuracy of the most probable class and expected calibration error (Guo et al. 2017, arXiv:1706.04599, eq. 3, 15 bins).

    Args:
        probabilities: (N, K), rows that sum to 1.
        labels: (N,) int64.
    """
    from torchmetrics.functional.classification import multiclass_calibration_error

    accuracy = (probabilities.argmax(dim=1) == labels).double().mean()
    error = multiclass_calibration_error(probabilities.float(), labels, probabilities.shape[1], n_bins=CALIBRATION_BINS)
    return Classification(float(accuracy), float(error))


def reliability(probabilities: Tensor, labels: Tensor, bins: int = 10) -> Reliability:
    """The reliability diagram (Guo et al. 2017, section 2): class probabilities (N, K), labels (N,)."""
    confidence, predicted = (part.numpy() for part in probabilities.double().max(dim=1))
    is_right = (predicted == labels.numpy()).astype(float)
    numbers = np.minimum((confidence * bins).astype(int), bins - 1)
    own = [numbers == number for number in range(bins) if (numbers == number).sum() >= 5]
    return Reliability(np.array([confidence[rows].mean() for rows in own]), np.array([is_right[rows].mean() for rows in own]))


def naive_bayes(num_images: int) -> Any:
    """Naive Bayes: independent Bernoulli pixels, binarised at 0.5."""
    from sklearn.naive_bayes import BernoulliNB

    return BernoulliNB(binarize=0.5)


def quadratic_discriminant(num_images: int) -> Any:
    """Quadratic discriminant analysis on up to 40 principal components, covariances regularised by 0.1."""
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
    from sklearn.pipeline import make_pipeline

    components = min(COMPONENTS, num_images // 10)
    return make_pipeline(PCA(components, random_state=0), QuadraticDiscriminantAnalysis(reg_param=0.1))


def logistic_regression(num_images: int) -> Any:
    """Multinomial logistic regression on pixels."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=200)


BASELINES: dict[str, Callable[[int], Any]] = {
    "naive Bayes": naive_bayes,
    "QDA": quadratic_discriminant,
    "logistic regression": logistic_regression,
}


def baseline(name: str, images: np.ndarray, labels: np.ndarray, test_images: np.ndarray, num_classes: int) -> Tensor:
    """Class probabilities (M, K) of uint8 `test_images` (M, C, H, W), by a baseline fitted on `images` (N, C, H, W).

    A class without training images has probability 0.
    """
    model = BASELINES[name](len(images))
    model.fit(pixels(images), labels)
    found = model.predict_proba(pixels(test_images))
    p = np.zeros((len(found), num_classes), found.dtype)
    p[:, model.classes_] = found
    return torch.from_numpy(p)


def pixels(images: np.ndarray) -> np.ndarray:
    """uint8 (N, C, H, W) -> float32 (N, C * H * W) in [0, 1]."""
    return images.reshape(len(images), -1).astype(np.float32) / 255
