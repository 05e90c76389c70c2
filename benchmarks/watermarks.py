"""Watermarks under attacks: true positives at 1 % false positives, on marked and unmarked images or texts, and the FID.

    python benchmarks/watermarks.py [zoo/mnist-diffusion] [--num 200] [--against mnist|own] [--device cuda]

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
from genai.models.capabilities import GeneratesText
from genai.models.seeds import image_seeds
from genai.models.watermarks import GreenList
from genai.runs import find, load
from genai.runs.sampling import default_condition
from genai.runs.text import stream_tokens, tokenizer_of

BATCH_SIZE = 250


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


def report(name: str, p: list[Tensor], before: float) -> None:
    found = [100 * float((values < 0.01).double().mean()) for values in p]
    print(
        f"{name:<28} marked {found[0]:5.1f} %   unmarked {found[1]:4.1f} %   median p {float(p[0].median()):.1g}   "
        f"{time.perf_counter() - before:.0f} s",
        flush=True,
    )


def measure_images(source: LoadedRun, num: int, against: str | None) -> None:
    condition = default_condition(source.run, source.model, num)
    before = time.perf_counter()
    seeds = image_seeds(1, num)
    marked, plain, other = [], [], []
    for rows in torch.arange(num).split(BATCH_SIZE):
        own, labels = [seeds[i] for i in rows.tolist()], None if condition is None else condition[rows]
        marked.append(to_uint8(marked_samples(source, "a key", own, labels, {}).cpu()))
        plain.append(to_uint8(source.model.sample(own, labels).cpu()))
        if against:
            other.append(to_uint8(source.model.sample([seed + 1_000_000 for seed in own], labels).cpu()))
    print(f"{num} images each, {time.perf_counter() - before:.0f} s of sampling", flush=True)
    if against:
        sets = {"marked": marked, "plain": plain, "other seed": other}
        real = source.data() if against == "own" else against  # `own`: the run's data, at its size
        fids = {name: genai.evaluate(torch.cat(parts), real).scores["fid"] for name, parts in sets.items()}
        print("FID: " + ", ".join(f"{name} {value:.3f}" for name, value in fids.items()), flush=True)
    for name, attack in ATTACKS.items():
        p = [mark_p_values(source, "a key", to_float(attack(torch.cat(images)))) for images in (marked, plain)]
        report(name, p, before)


def measure_text(source: LoadedRun, num: int) -> None:
    """Texts of 200 tokens, whole, their first half, and with a tenth of the tokens replaced by random ones."""
    tokenizer, before = tokenizer_of(source.run), time.perf_counter()
    texts = []
    for settings in ({"green": GreenList("a key")}, {}):
        rows: list[list[int]] = []
        for start in range(0, num, BATCH_SIZE):
            seeds = image_seeds(1, num)[start : start + BATCH_SIZE]
            *_, last = stream_tokens(source.model, tokenizer, seeds, "", 200, **settings)
            rows += [list(row) for row in last]
        texts.append(rows)
        loss = [-float(source.model.text_log_probs(torch.tensor(row)).mean()) for row in rows[:50]]
        print(f"{num} texts, {sum(loss) / len(loss):.3f} nats per token, {time.perf_counter() - before:.0f} s", flush=True)
    size, random = source.model.vocab_size, np.random.default_rng(0)

    def replaced(row: list[int]) -> list[int]:
        return [int(random.integers(size)) if random.random() < 0.1 else token for token in row]

    for name, change in {"none": list, "first half": lambda row: row[:100], "a tenth replaced": replaced}.items():
        p = [torch.tensor([GreenList("a key").p_value(change(row), size)[0] for row in rows]) for rows in texts]
        report(name, p, before)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", nargs="?", default="zoo/mnist-diffusion")
    parser.add_argument("--num", type=int, default=200)
    parser.add_argument("--against", help="dataset of the FID")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    run = find(options.run)
    source = LoadedRun(run, load(run, "best", options.device, ()), ())
    if isinstance(source.model, GeneratesText):
        measure_text(source, options.num)
    else:
        measure_images(source, options.num, options.against)


if __name__ == "__main__":
    main()
