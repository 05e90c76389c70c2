"""How unusual an image is compared with reference images, by its latent code and by its likelihood."""

import numpy as np
import torch
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import PolynomialFeatures
from torch import Tensor

NUM_FITTED = 2000  # reference codes that the linear fit uses


def novelty(codes: Tensor, reference: Tensor, neighbours: int = 5) -> Tensor:
    """Mean distance of codes (N, D) to their nearest `reference` codes (M, D), minus what is expected for their norm: (N,).

    Codes with a large norm lie farther apart. A linear fit of the reference codes' own distances to their norms gives the
    expected distance, so that an image with a small code can be novel too.
    """
    index = NearestNeighbors(n_neighbors=neighbours + 1).fit(reference.numpy())
    fitted = reference[:NUM_FITTED]
    own_distances = index.kneighbors(fitted.numpy())[0][:, 1:].mean(axis=1)  # without the code itself
    expected = LinearRegression().fit(norms(fitted), own_distances)
    distances = index.kneighbors(codes.numpy(), neighbours)[0].mean(axis=1)
    return torch.from_numpy(distances - expected.predict(norms(codes)))


def norms(codes: Tensor) -> np.ndarray:
    """Euclidean norms of codes (N, D): (N, 1)."""
    return codes.norm(dim=1, keepdim=True).numpy()


def excess(nats: Tensor, images: Tensor, reference_nats: Tensor, reference: Tensor) -> Tensor:
    """-ln p(x) in nats (N,) of images (N, C, H, W), minus the value expected for their complexity: (N,) float64.

    Every model assigns a high likelihood to simple images (Serra et al. 2019, arXiv:1909.11480, who subtract the size of a
    compressed file). The expected value is a quadratic polynomial of brightness and total variation, fitted to the nats (M,)
    of reference images (M, C, H, W).
    """
    quadratic = PolynomialFeatures(degree=2)
    expected = LinearRegression(fit_intercept=False).fit(
        quadratic.fit_transform(complexity(reference)), reference_nats.double().numpy()
    )
    return nats.double() - torch.from_numpy(expected.predict(quadratic.transform(complexity(images))))


def complexity(images: Tensor) -> np.ndarray:
    """Images (N, C, H, W) in [-1, 1] -> brightness and total variation, means over pixels: (N, 2) float64."""
    x = images.double()
    brightness = x.mean(dim=(1, 2, 3))
    variation = x.diff(dim=3).abs().mean(dim=(1, 2, 3)) + x.diff(dim=2).abs().mean(dim=(1, 2, 3))
    return torch.stack([brightness, variation], dim=1).numpy()


def standardised(scores: Tensor, reference: Tensor) -> Tensor:
    """Scores (N,) minus the mean of the reference scores (M,), divided by their standard deviation: (N,)."""
    return (scores - reference.mean()) / reference.std()
