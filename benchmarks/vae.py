"""Variational autoencoders of MNIST by genai and pythae: the same wall-clock, the same evaluator.

    python -m venv rivals && rivals/bin/pip install pythae
    python benchmarks/vae.py --rivals rivals/bin/python [--minutes 10] [--kimg 500] [--num 2000]

pythae's convolutional network for MNIST lives in an environment of its own; benchmarks/rivals.py says which settings it has.
The bound is that of 200 test images, binarised at random, with 200 importance samples each (genai/models/vae/bound.py);
networks compute it in bfloat16, sums in float64.
"""

from typing import Any

import torch
from side_by_side import compare, parser

from genai.data.mnist import MNIST
from genai.images import to_float
from genai.models.seeds import image_seeds

BOUND_IMAGES, BOUND_SAMPLES = 200, 200


def bound(model: Any, data: MNIST) -> dict[str, float]:
    """The bound of -ln p(x) in nats, mean over the first test images."""
    images = torch.from_numpy(data.split("test").images[:BOUND_IMAGES].copy())
    with torch.autocast("cpu", torch.bfloat16):
        parts = [
            model.log_likelihood(to_float(part), image_seeds(start, len(part)), BOUND_SAMPLES)
            for start, part in enumerate(images.split(50))
        ]
    return {"nats": round(-float(torch.cat(parts).mean()), 2)}


def main() -> None:
    """Train, draw, score, print."""
    options = parser("Variational autoencoders of MNIST by two libraries.", kimg=500).parse_args()
    compare(options, ["pythae"], "configs/mnist/vae.yaml", bound)


if __name__ == "__main__":
    main()
