"""Seconds to score 10,000 MNIST samples: ours against torch-fidelity's calculate_metrics, same feature network, one run.

    python benchmarks/evaluation.py [--num 10000] [--features mnist] [--rounds 2]

Both extract the features of samples and reference and compute FID, IS, KID, precision and recall. The samples are real
training images with noise, the reference is the test split, both uint8 in memory. Each side is warmed up on 1,000 images; the
two alternate, and the faster of a side's rounds counts. A missing feature network is replaced by one with random weights: speed
does not depend on them.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import torch
import torch_fidelity
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import Dataset
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from genai.data.mnist import MNIST
from genai.errors import UserError
from genai.metrics.features import FeatureNetwork, extract, load_extractor
from genai.metrics.fid import frechet_distance
from genai.metrics.inception_score import marginal_divergence
from genai.metrics.kid import kernel_distance
from genai.metrics.precision_recall import share_inside
from genai.networks.convnet import ConvNet

BATCH_SIZE = 250


class Images(Dataset):
    """Images in memory, one at a time, as torch-fidelity reads them."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


def register(network: FeatureNetwork) -> None:
    """Make `network` torch-fidelity's feature extractor "ours"."""

    class Extractor(FeatureExtractorBase):
        def __init__(self, name: str, features_list: list[str], **kwargs: object) -> None:
            super().__init__(name, features_list)

        def forward(self, images: Tensor) -> tuple[Tensor | None, ...]:
            features = network(images)
            return tuple(getattr(features, name) for name in self.features_list)

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return "pool", "logits"

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "logits" if metric == "isc" else "pool"

        @staticmethod
        def can_be_compiled() -> bool:
            return False

    torch_fidelity.register_feature_extractor("ours", Extractor)


def ours(network: FeatureNetwork, samples: Tensor, reference: Tensor) -> dict[str, float]:
    x, y = (extract(network, images.split(BATCH_SIZE)) for images in (samples, reference))
    assert x.logits is not None
    return {
        "fid": frechet_distance(x.pool, y.pool),
        "is": marginal_divergence(x.logits).value,
        "kid": kernel_distance(x.pool, y.pool).value,
        "precision": share_inside(x.pool, y.pool),
        "recall": share_inside(y.pool, x.pool),
    }


def theirs(samples: Tensor, reference: Tensor) -> dict[str, float]:
    scores = torch_fidelity.calculate_metrics(
        input1=Images(samples),
        input2=Images(reference),
        feature_extractor="ours",
        batch_size=BATCH_SIZE,
        cuda=False,
        isc=True,
        fid=True,
        kid=True,
        prc=True,
        cache=False,
        verbose=False,
    )
    return {
        "fid": scores["frechet_inception_distance"],
        "is": scores["inception_score_mean"],
        "kid": scores["kernel_inception_distance_mean"],
        "precision": scores["precision"],
        "recall": scores["recall"],
    }


def load(features: str) -> FeatureNetwork:
    try:
        return load_extractor(features)
    except UserError as error:
        print(f"{error}; using random weights")
    init_args = {"image_shape": [1, 28, 28], "num_classes": 10}
    spec = json.dumps({"class_path": "genai.networks.convnet.ConvNet", "init_args": init_args})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random.safetensors"
        state = {key: value.contiguous() for key, value in ConvNet((1, 28, 28), 10).state_dict().items()}
        save_file(state, path, {"network": spec, "class_names": json.dumps(list("0123456789")), "task": "class"})
        return load_extractor(str(path))


def mnist(num: int) -> tuple[Tensor, Tensor]:
    """`num` training images with noise, and `num` test images: uint8 (num, 1, 28, 28)."""
    data = MNIST()
    data.prepare_data()
    data.setup("test")
    samples, reference = (data.split(split).batch(range(num)).images for split in ("train", "test"))
    noise = torch.randint(-20, 21, samples.shape, generator=torch.Generator().manual_seed(0))
    return (samples.int() + noise).clamp(0, 255).to(torch.uint8), reference


def processor_time() -> float:
    """Seconds of processor time of this process and its finished workers: what others on the machine do not change."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num", type=int, default=10_000)
    parser.add_argument("--features", default="mnist")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()

    network = load(options.features)
    register(network)
    samples, reference = mnist(options.num)
    sides = {
        "ours": lambda n: ours(network, samples[:n], reference[:n]),
        "theirs": lambda n: theirs(samples[:n], reference[:n]),
    }
    for side in sides.values():
        side(1000)
    scores = {}
    seconds = {name: float("inf") for name in sides}
    cpu_seconds = dict(seconds)
    for _ in range(options.rounds):
        for name, side in sides.items():
            start, cpu_start = time.perf_counter(), processor_time()
            scores[name] = side(options.num)
            seconds[name] = min(seconds[name], time.perf_counter() - start)
            cpu_seconds[name] = min(cpu_seconds[name], processor_time() - cpu_start)
    for metric in scores["ours"]:
        print(f"{metric:10} ours {scores['ours'][metric]:12.6f}   torch-fidelity {scores['theirs'][metric]:12.6f}")
    for unit, spent in (("s", seconds), ("s of processor time", cpu_seconds)):
        ratio = spent["theirs"] / spent["ours"]
        print(f"ours {spent['ours']:.1f} {unit}, torch-fidelity {spent['theirs']:.1f} {unit}: ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
