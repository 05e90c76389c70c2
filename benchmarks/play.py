"""Time of sixteen digits in the playground: seconds of the processor on one thread, without and with contention alike.

python benchmarks/play.py
"""

import time

import torch

from genai.report.play.actions import PlayableRun, Settings
from genai.runs import find, load

NAMES = ("zoo/mnist-gan", "zoo/mnist-diffusion-ect", "zoo/mnist-diffusion")


def main() -> None:
    """Print a line for each zoo entry."""
    torch.set_num_threads(1)
    for name in NAMES:
        run = PlayableRun(find(name), name, load(name))
        run.sample(1, 16, Settings(steps=1))  # warm up
        start = time.process_time()
        run.sample(0, 16, Settings())
        print(f"{name}: {time.process_time() - start:.2f} s")


if __name__ == "__main__":
    main()
