"""Seconds of `genai.evaluate` against torch-fidelity's calculate_metrics: the same pictures, feature network and reference.

    python benchmarks/score.py [--num 10000] [--rounds 2]

Training images of MNIST with noise, in memory, are scored against the test split on `mnist` features. Torch-fidelity computes
FID, IS, KID, precision and recall. Ours computes these, density, coverage, the extrapolated FID, class shares and haze: cold,
where it also measures the floor, the same work again; and warm, where reference and floor are in the cache, as they are for
every score but the first. Each side is warmed up; the faster of a side's rounds counts.
"""

import argparse
import os
import tempfile
from collections.abc import Callable

from evaluation import mnist, processor_time, register, theirs

from genai.data.mnist import MNIST
from genai.metrics.features import load_extractor
from genai.report.evaluate import evaluate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    samples, reference = mnist(options.num)
    data = MNIST()
    data.prepare_data()  # stays open: only features and floors are in the temporary caches below
    register(load_extractor("mnist"))

    def cold() -> object:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["GENAI_CACHE"] = folder
            return evaluate(samples, data)

    def warm() -> object:
        os.environ["GENAI_CACHE"] = kept
        return evaluate(samples, data)

    with tempfile.TemporaryDirectory() as kept:
        sides: dict[str, Callable[[], object]] = {"warm": warm, "cold": cold, "theirs": lambda: theirs(samples, reference)}
        spent = dict.fromkeys(sides, float("inf"))
        for number in range(options.rounds + 1):
            for name, side in sides.items():
                start = processor_time()
                side()
                if number:
                    spent[name] = min(spent[name], processor_time() - start)
    print(f"{options.num} pictures, seconds of processor time: torch-fidelity {spent['theirs']:.1f}")
    for name in ("warm", "cold"):
        print(f"ours, {name}: {spent[name]:.1f}, ratio {spent['theirs'] / spent[name]:.2f}")


if __name__ == "__main__":
    main()
