"""Watermarks under attacks: true positives at 1 % false positives, on marked and unmarked samples, and the change of FID.

    python benchmarks/watermarks.py [zoo/mnist-diffusion] [--num 200]

The threshold is the p-value 0.01, which holds for every image; the share of unmarked samples below it is printed too.
"""

import argparse
import io
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

import genai
from genai.cli.options.run import LoadedRun
from genai.cli.options.watermark import mark_p_values, marked_samples
from genai.images import to_float, to_pil, to_uint8
from genai.models.seeds import image_seeds
from genai.runs import find, load
from genai.runs.sampling import default_condition


def jpeg(image: Tensor) -> Tensor:
    file = io.BytesIO()
    to_pil(image).save(file, "JPEG", quality=75)
    array = np.asarray(Image.open(file))
    return torch.from_numpy(array.reshape(*image.shape[1:], -1).transpose(2, 0, 1).copy())


def resized(images: Tensor, size: int) -> Tensor:
    return to_uint8(interpolate(to_float(images), (size, size), mode="bicubic", antialias=True))


def cropped(images: Tensor) -> Tensor:
    side = images.shape[-1]
    margin = max(1, round(0.05 * side))
    return resized(images[:, :, margin : side - margin, margin : side - margin], side)


def noisy(images: Tensor) -> Tensor:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return to_uint8(to_float(images) + 0.1 * noise)  # 5 % of the range


ATTACKS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda images: images,
    "JPEG 75": lambda images: torch.stack([jpeg(image) for image in images]),
    "resized by half and back": lambda images: resized(resized(images, images.shape[-1] // 2), images.shape[-1]),
    "cropped by 10 % and resized": cropped,
    "noise of 5 %": noisy,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", nargs="?", default="zoo/mnist-diffusion")
    parser.add_argument("--num", type=int, default=200)
    parser.add_argument("--against", help="dataset of the FID")
    options = parser.parse_args()
    torch.set_num_threads(1)
    run = find(options.run)
    source = LoadedRun(run, load(run, "best", "cpu", ()), ())
    seeds, condition = image_seeds(1, options.num), default_condition(run, source.model, options.num)
    before = time.perf_counter()
    marked = to_uint8(marked_samples(source, "a key", seeds, condition, {}))
    plain = to_uint8(source.model.sample(seeds, condition))
    print(f"{options.num} images each, {time.perf_counter() - before:.0f} s of sampling", flush=True)
    if options.against:
        scores = [genai.evaluate(images, options.against).scores["fid"] for images in (marked, plain)]
        other = to_uint8(source.model.sample(image_seeds(2, options.num), condition))
        print(
            f"FID: marked {scores[0]:.3f}, plain {scores[1]:.3f}, other seed "
            f"{genai.evaluate(other, options.against).scores['fid']:.3f}",
            flush=True,
        )
    for name, attack in ATTACKS.items():
        p = [mark_p_values(source, "a key", to_float(attack(images))) for images in (marked, plain)]
        found = [float((values < 0.01).double().mean()) for values in p]
        print(
            f"{name:<28} marked {100 * found[0]:5.1f} %   unmarked {100 * found[1]:4.1f} %   "
            f"median p {float(p[0].median()):.1g}   {time.perf_counter() - before:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
