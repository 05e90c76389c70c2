"""genai sample: images from a trained model, one seed each."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genai.errors import UserError
from genai.models.base import GenerativeModel, image_seeds
from genai.pictures import grid, save_png, to_pil
from genai.pixels import to_uint8
from genai.runs import Run, find, load
from genai.verbs.arguments import VerbParser, output_path, positive


def parser() -> VerbParser:
    """The options of `genai sample`."""
    verb = VerbParser(prog="genai sample", description="Draw images from a run, or a zoo entry.")
    verb.add_argument("run", metavar="RUN", help="run directory, experiment (its newest run) or zoo/NAME")
    verb.add_argument("--num", type=positive, default=None, help="how many images (64)")
    verb.add_argument("--seed", type=int, default=0, help="image i depends on this seed and i only (0)")
    verb.add_argument("--label", help="what a conditional model draws: 4, a class name, 3,4,5 or all")
    verb.add_argument("--per-label", type=positive, help="images of each label")
    verb.add_argument("--out", help="grid.png, folder/ or samples.npz; default: a new PNG in RUN/samples (zoo: here)")
    verb.add_argument("--force", action="store_true", help="write over --out if it is there")
    verb.add_argument("--checkpoint", default="best", help="best, last or a file")
    verb.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    verb.add_argument("--trust", action="append", default=[], help="a package whose classes the config may name")
    return verb


def class_numbers(text: str, class_names: list[str]) -> list[int]:
    """`4`, `four`, `3,4` or `all` -> class numbers.

    Raises:
        UserError: there is no such class.
    """
    if text == "all":
        return list(range(len(class_names)))
    numbers = []
    for part in text.split(","):
        if part in class_names:
            numbers.append(class_names.index(part))
        elif part.isdigit() and int(part) < len(class_names):
            numbers.append(int(part))
        else:
            raise UserError(f"there is no class {part!r}: choose from {', '.join(class_names)}, or all")
    return numbers


def labels_for(options: argparse.Namespace, model: GenerativeModel, class_names: list[str]) -> Tensor | None:
    """The label of each image to draw, (N,) int64; None for an unconditional model."""
    if not model.conditional:
        if options.label or options.per_label:
            raise UserError(f"{options.run} is unconditional: it draws without --label and --per-label")
        return None
    numbers = class_numbers(options.label or "all", class_names)
    if options.per_label:
        return torch.tensor(numbers).repeat_interleave(options.per_label)
    return torch.tensor(numbers).repeat(options.num // len(numbers) + 1)[: options.num]


def write_folder(images: Tensor, labels: Tensor | None, folder: Path, metadata: dict[str, str]) -> None:
    """One PNG per image, 00000.png and on."""
    for i, image in enumerate(images):
        own = {"Index": str(i)} | ({} if labels is None else {"Label": str(int(labels[i]))})
        save_png(to_pil(image), folder / f"{i:05d}.png", metadata | own)


def write_npz(images: Tensor, labels: Tensor | None, path: Path) -> None:
    """`images` uint8 (N, H, W) or (N, H, W, 3), and `labels` (N,) of a conditional model."""
    array = images.numpy()
    arrays: dict[str, Any] = {"images": array[:, 0] if array.shape[1] == 1 else array.transpose(0, 2, 3, 1)}
    if labels is not None:
        arrays["labels"] = labels.numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)


def write(images: Tensor, labels: Tensor | None, path: Path, columns: int | None, metadata: dict[str, str]) -> None:
    """Write as the path's ending says: .png a grid, .npz arrays, none a folder of PNGs."""
    if path.suffix == ".png":
        save_png(grid(images, columns), path, metadata)
    elif path.suffix == ".npz":
        write_npz(images, labels, path)
    elif path.suffix == "" or path.is_dir():
        write_folder(images, labels, path, metadata)
    else:
        raise UserError(f"--out {path} should end in .png (a grid), .npz (arrays) or / (a folder of PNGs)")


def default_path(run: Run, seed: int, num: int) -> Path:
    """In the run's own folder; a zoo entry is left as it is."""
    name = f"seed-{seed}-num-{num}.png"
    return Path(f"{run.path.name}-{name}") if run.is_exported else run.path / "samples" / name


def run(arguments: list[str]) -> None:
    """Draw and write the images."""
    options = parser().parse_args(arguments)
    options.num = options.num or 64
    if not 0 <= options.seed < 2**31:
        raise UserError(f"--seed {options.seed} is out of range: use 0 to 2147483647")
    source = find(options.run)
    model = load(source, options.checkpoint, options.device, options.trust)
    if not isinstance(model, GenerativeModel):
        raise UserError(f"{source.path} is a {type(model).__name__}, which draws nothing: name a generative run")
    labels = labels_for(options, model, source.record()["class_names"])
    num = options.num if labels is None else len(labels)
    path = output_path(options.out, default_path(source, options.seed, num), options.force)
    images = to_uint8(model.sample(image_seeds(options.seed, num), labels)).cpu()
    metadata = {"Model": type(model).__name__, "Run": source.name, "Seed": str(options.seed)}
    write(images, labels, path, options.per_label, metadata)
    print(f"wrote {path}")
