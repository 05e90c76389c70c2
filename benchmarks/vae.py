"""Variational autoencoders of MNIST by genai and pythae: the same wall-clock, the same evaluator.

    python -m venv rivals && rivals/bin/pip install pythae
    python benchmarks/vae.py --rivals rivals/bin/python [--minutes 10] [--kimg 500] [--num 2000]

pythae's convolutional network for MNIST needs its own environment; its settings are in benchmarks/rivals.py. The score is
the IWAE bound of 200 dynamically binarised test images with 200 importance samples each (genai/models/vae/bound.py); the
networks run in bfloat16, sums are float64.
"""

from typing import Any

import torch
from side_by_side import compare, parser

from genai.data.mnist import MNIST
from genai.images import to_float
from genai.models.seeds import image_seeds

BOUND_IMAGES, BOUND_SAMPLES = 200, 200


def bound(model: Any, data: MNIST) -> dict[str, float]:
    """The IWAE bound of -ln p(x) in nats, mean over the first test images."""
    images = torch.from_numpy(data.split("test").images[:BOUND_IMAGES].copy())
    with torch.autocast("cpu", torch.bfloat16):
        parts = [
            model.likelihood_bound(to_float(part), image_seeds(start, len(part)), num_samples=BOUND_SAMPLES).nats
            for start, part in enumerate(images.split(50))
        ]
    return {"nats": round(float(torch.cat(parts).mean()), 2)}


def main() -> None:
    """Train, sample, score and print."""
    options = parser("Variational autoencoders of MNIST by two libraries.", kimg=500).parse_args()
    compare(options, ["pythae"], "configs/mnist/vae.yaml", bound)


if __name__ == "__main__":
    main()
