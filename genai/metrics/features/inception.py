"""torch-fidelity's InceptionV3, the network of published FIDs."""

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from genai.errors import UserError
from genai.metrics.features.network import FeatureNetwork, Features, sha256_of

FILE = "weights-inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{FILE}"
HASH = "6726825d"
CONNECT_SECONDS = 5.0
OTHERS = "`mnist` for images of one channel, or a feature network of your own that `genai export-features` wrote"


class InceptionFeatures(nn.Module):
    """2048 features and 1008 logits; images are resized as in TensorFlow 1, which published scores depend on."""

    def __init__(self, weights: Path) -> None:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        super().__init__()
        self.network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"], str(weights))

    def forward(self, images: Tensor) -> Features:
        return Features(*self.network(images))


def load(weights: Path | None = None) -> FeatureNetwork:
    """See `genai.metrics.features.load_extractor`.

    Raises:
        UserError: there are no weights and they cannot be downloaded, or the file has other content.
    """
    path = _weights_path(weights)
    try:
        torch.load(path, map_location="cpu", weights_only=True)  # torch-fidelity would execute a crafted pickle
        with torch.random.fork_rng(devices=[]):
            embed = InceptionFeatures(path)
    except Exception as error:  # a file that is no pickle raises anything
        raise UserError(f"{path} holds no Inception weights of torch-fidelity: download {URL}") from error
    return FeatureNetwork(
        name="inception",
        embed=embed,
        channels=3,
        resize="bilinear of TensorFlow 1 to 299x299",
        weights_sha256=sha256_of(path),
        task="class",
        class_names=(),
        num_classes=1008,
    )


def _weights_path(given: Path | None) -> Path:
    named = given or os.environ.get("GENAI_INCEPTION")
    if named:
        if not Path(named).is_file():
            raise UserError(f"there are no Inception weights at {named}: download {URL}, or use {OTHERS}")
        return Path(named)
    cached = Path(torch.hub.get_dir()) / "checkpoints" / FILE
    if not cached.is_file():
        _download(cached)
    return cached


def _download(target: Path) -> None:
    from urllib.request import urlopen

    try:
        urlopen(URL, timeout=CONNECT_SECONDS).close()  # torch.hub's own download has no time limit
        target.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(URL, str(target), hash_prefix=HASH)
    except OSError as error:
        raise UserError(
            f"`inception` has no weights and they cannot be downloaded ({error}): put {URL} into "
            f"{target.parent} or name the file in $GENAI_INCEPTION, or use {OTHERS}"
        ) from error
