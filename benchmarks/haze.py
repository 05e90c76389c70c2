"""Haze and two-sample accuracy of zoo entries of MNIST, before and after maps of pixel values.

    python benchmarks/haze.py zoo/mnist-gan zoo/mnist-vae [--num 2000] [--maps unprocessed histogram]
    python benchmarks/haze.py zoo/mnist-diffusion --num 64 --precision

The maps are fitted to other samples (seed 1) and to training images. The scores are those of `genai score --two-sample` against
the test split:

- black point: values up to a threshold become 0, so that the share of black pixels is that of training images;
- stretch: the same threshold is subtracted, and the rest is scaled to 255, as by an output that saturates;
- histogram: histogram matching, `genai.images.match_histogram`;
- dithered: floats are rounded up or down at random (dequantisation of the output), instead of to the nearest integer.

With --precision it prints the share of nearly black pixels for float32, for bfloat16 and for bfloat16 with the last step in
float32, on processors without bfloat16 too. The runs are conditional diffusion models.
"""

import argparse
import time
from unittest.mock import patch

import torch
from torch import Tensor

import genai
from genai.images import match_histogram, to_uint8
from genai.metrics.features.network import nearly_black
from genai.models.diffusion.preconditioning import Denoise
from genai.report.evaluate import data_named

MAPS = ("unprocessed", "black point", "stretch", "histogram", "dithered")


def mapped(name: str, samples: Tensor, others: Tensor, train: Tensor) -> Tensor:
    """uint8 images of floats in [-1, 1] under one of MAPS; `others` and `train` are those that it is fitted to."""
    own, other = to_uint8(samples), to_uint8(others)
    black = (train < 2).double().mean().item()
    threshold = int(other.flatten().kthvalue(max(1, round(black * other.numel()))).values)
    if name == "black point":
        return torch.where(own <= threshold, torch.zeros_like(own), own)
    if name == "stretch":
        return to_uint8(((own.float() - threshold) / (255 - threshold)).clamp(min=0) * 2 - 1)
    if name == "histogram":
        return match_histogram(samples, others, train)
    if name == "dithered":
        noise = torch.rand(samples.shape, generator=torch.Generator().manual_seed(0))
        return ((samples + 1) * 127.5 + noise).floor().clamp(0, 255).to(torch.uint8)
    return own


def print_precisions(run: str, num: int) -> None:
    """Print the share of nearly black pixels of `num` samples for each precision of the network."""
    model = genai.load(run)
    last = float(model.sampling.sigmas()[-2])
    for name, lowest in {"float32": float("inf"), "bfloat16, last step in float32": 1.001 * last, "bfloat16": 0.0}.items():

        def in_bfloat16(denoise: Denoise, lowest: float = lowest) -> Denoise:
            def wrapped(x: Tensor, sigma: Tensor) -> Tensor:
                with torch.autocast("cpu", torch.bfloat16, enabled=float(sigma.max()) > lowest):
                    return denoise(x, sigma)

            return wrapped

        with patch("genai.models.diffusion.editing.in_bfloat16", in_bfloat16):
            images = model.sample(seeds=range(num), condition=torch.arange(num) % 10, bfloat16=True)
        print(f"{run:24}  {name:30}  {nearly_black(to_uint8(images)).mean():.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--num", type=int, default=2000)
    parser.add_argument("--maps", nargs="+", choices=MAPS, default=MAPS)
    parser.add_argument("--precision", action="store_true")
    options = parser.parse_args()
    if options.precision:
        for run in options.runs:
            print_precisions(run, options.num)
        return
    data = data_named("mnist")
    data.prepare_data()
    data.setup("test")
    train = data.split("train").batch(range(10_000)).images
    for run in options.runs:
        samples, others = genai.sample(run, num=options.num), genai.sample(run, num=500, seed=1)
        for name in options.maps:
            start = time.process_time()
            result = genai.evaluate(mapped(name, samples, others, train), data, two_sample=True)
            scores = "  ".join(
                f"{key} {result.scores[key]:.4f} (floor {result.floor[key]:.4f})"
                for key in ("haze", "fid", "two_sample", "two_sample_std")
            )
            print(f"{run:24}  {name:11}  {scores}  {time.process_time() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
