"""Classification: Bayes' rule for models of density, baselines of scikit-learn, accuracy and calibration."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

CALIBRATION_BINS = 15
COMPONENTS = 40  # of the principal components that QDA sees


class Classification(NamedTuple):
    """accuracy and expected calibration error, each a share in [0, 1]."""

    accuracy: float
    calibration_error: float


def posterior(log_likelihood: Tensor, prior: Tensor) -> Tensor:
    """Bayes' rule: ln p(x|y) (N, K) and p(y) (K,) -> p(y|x) (N, K)."""
    return (log_likelihood + prior.to(log_likelihood).log()).softmax(dim=1)


def classification(probabilities: Tensor, labels: Tensor) -> Classification:
    """How often the likeliest class is right, and how far its probability is from that (Guo et al. 2017, equation 3, 15 bins).

    Args:
        probabilities: (N, K), rows that sum to 1.
        labels: (N,) int64.
    """
    right = (probabilities.argmax(dim=1) == labels).double().mean()
    error = multiclass_calibration_error(probabilities.float(), labels, probabilities.shape[1], n_bins=CALIBRATION_BINS)
    return Classification(float(right), float(error))


def naive_bayes(num_images: int) -> Any:
    """Independent black and white pixels, each with its chance in each class."""
    from sklearn.naive_bayes import BernoulliNB

    return BernoulliNB(binarize=0.5)


def quadratic_discriminant(num_images: int) -> Any:
    """A Gaussian for each class, on up to 40 principal components, its covariance shrunk by a tenth."""
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


def baseline(name: str, images: np.ndarray, labels: np.ndarray, tested: np.ndarray) -> Tensor:
    """Probabilities (M, K) that a baseline fitted on uint8 images (N, C, H, W) gives to `tested` (M, C, H, W)."""
    model = BASELINES[name](len(images))
    model.fit(pixels(images), labels)
    return torch.from_numpy(model.predict_proba(pixels(tested)))


def pixels(images: np.ndarray) -> np.ndarray:
    """uint8 (N, C, H, W) -> float32 (N, C * H * W) in [0, 1]."""
    return images.reshape(len(images), -1).astype(np.float32) / 255
