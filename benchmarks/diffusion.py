"""Diffusion of MNIST by genai, denoising-diffusion-pytorch and diffusers: the same wall-clock, the same evaluator.

    python -m venv rivals && rivals/bin/pip install denoising-diffusion-pytorch diffusers
    python benchmarks/diffusion.py --rivals rivals/bin/python [--minutes 10] [--kimg 350] [--num 2000]

The other libraries are installed in an environment of their own; benchmarks/rivals.py has their settings. All train one after
the other, in bfloat16, with OMP_NUM_THREADS threads. `--kimg` is the length of genai's learning-rate schedule: about the
number of images that this machine trains on in that time. The scores are those of the test split.
"""

from side_by_side import compare, parser


def main() -> None:
    """Train, draw, score, print."""
    options = parser("Diffusion of MNIST by three libraries.", kimg=350).parse_args()
    compare(options, ["ddpm", "diffusers"], "configs/mnist/diffusion.yaml", lambda model, data: {})


if __name__ == "__main__":
    main()
