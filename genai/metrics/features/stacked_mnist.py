"""Stacked MNIST (Metz et al. 2017, arXiv:1611.02163): the `mnist` feature network on each of three channels."""

from itertools import product
from pathlib import Path

from torch import Tensor, nn

from genai.metrics.features import trained
from genai.metrics.features.network import FeatureNetwork, Features


class StackedFeatures(nn.Module):
    """Applies a network of single digits to each channel.

    Features are those of the channels, concatenated. Logits are the log-probabilities of triples of digits; the first channel
    is the most significant.
    """

    def __init__(self, digit: nn.Module) -> None:
        super().__init__()
        self.digit = digit

    def forward(self, images: Tensor) -> Features:
        channels = images.shape[:2]  # (N, 3)
        digits: Features = self.digit(images.flatten(0, 1).unsqueeze(1))  # of 3N grey images
        assert digits.logits is not None
        a, b, c = digits.logits.log_softmax(dim=1).unflatten(0, channels).unbind(dim=1)  # (N, K) each
        triples = a[:, :, None, None] + b[:, None, :, None] + c[:, None, None, :]  # (N, K, K, K)
        return Features(digits.pool.unflatten(0, channels).flatten(1), triples.flatten(1))  # (N, 3D), (N, K^3)


def load(weights: Path | None = None) -> FeatureNetwork:
    """See `genai.metrics.features.load_extractor`; `weights` are those of a network of single digits."""
    digit = trained.load("mnist", weights)
    class_names = tuple("".join(triple) for triple in product(digit.class_names, repeat=3))
    return FeatureNetwork(
        name="stacked-mnist",
        embed=StackedFeatures(digit.embed),
        channels=3,
        resize=digit.resize,
        weights_sha256=digit.weights_sha256,
        task="class",
        class_names=class_names,
        num_classes=len(class_names),
        repeat_grey=False,
    )
