"""genai sample: images from a trained model, one seed each."""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from genai.cli.options.arguments import VerbParser, add_trust_option, output_path, positive
from genai.cli.options.labels import label_texts, labels_for, row_names, seeds_for
from genai.cli.options.prompts import PER_PROMPT, add_prompt_options, is_prompted
from genai.cli.options.realness import write_realness
from genai.cli.options.sampling import add_step_options, step_settings
from genai.errors import UserError
from genai.images import grid, save_png, to_pil, to_uint8
from genai.models.base import ImageModel
from genai.models.capabilities import Resamples
from genai.runs import Run, find, load


def parser() -> VerbParser:
    """The options of `genai sample`."""
    verb = VerbParser(prog="genai sample", description="Draw images from a run, or a zoo entry.")
    verb.add_argument("run", metavar="RUN", help="run directory, experiment (its newest run) or zoo/NAME")
    verb.add_argument("--num", type=positive, default=None, help="how many images (64)")
    verb.add_argument("--seed", type=int, default=0, help="image i depends on this seed and i only (0)")
    verb.add_argument("--label", help="4, a class name, 3,4,5 or all; of attributes: glasses,no-beard or all")
    verb.add_argument("--per-label", type=positive, help="images of each label")
    verb.add_argument("--same-noise", action="store_true", help="image j of every label, or prompt, starts from the same noise")
    add_prompt_options(verb)
    add_step_options(verb)
    verb.add_argument("--candidates", type=positive, metavar="N", help="images a seed; a GAN's discriminator keeps one of them")
    verb.add_argument("--realness", action="store_true", help="how real the model finds these and real images: a CSV and a PNG")
    verb.add_argument("--out", help="grid.png, folder/ or samples.npz; default: a new PNG in RUN/samples (zoo: here)")
    verb.add_argument("--force", action="store_true", help="write over --out if it is there")
    verb.add_argument("--checkpoint", default="best", help="best, last or a file")
    verb.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    add_trust_option(verb)
    return verb


class Drawn(NamedTuple):
    """Images uint8 (N, C, H, W); of a conditional model also their labels (N,), (N, K) or (N, L), and these in words."""

    images: Tensor
    labels: Tensor | None
    texts: list[str] | None


def write_folder(drawn: Drawn, folder: Path, metadata: dict[str, str]) -> None:
    """One PNG per image, 00000.png and on."""
    for i, image in enumerate(drawn.images):
        own = {"Index": str(i)} | ({} if drawn.texts is None else {"Label": drawn.texts[i]})
        save_png(to_pil(image), folder / f"{i:05d}.png", metadata | own)


def write_npz(drawn: Drawn, path: Path) -> None:
    """`images` uint8 (N, H, W) or (N, H, W, 3), and `labels` (N,), (N, K) or (N, L) of a conditional model."""
    array = drawn.images.numpy()
    arrays: dict[str, Any] = {"images": array[:, 0] if array.shape[1] == 1 else array.transpose(0, 2, 3, 1)}
    if drawn.labels is not None:
        arrays["labels"] = drawn.labels.numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)


def write(drawn: Drawn, path: Path, columns: int | None, metadata: dict[str, str]) -> None:
    """Write as the path's ending says: .png a grid, .npz arrays, none a folder of PNGs."""
    if path.suffix == ".png":
        save_png(grid(drawn.images, columns), path, metadata)
    elif path.suffix == ".npz":
        write_npz(drawn, path)
    elif path.suffix == "" or path.is_dir():
        write_folder(drawn, path, metadata)
    else:
        raise UserError(f"--out {path} should end in .png (a grid), .npz (arrays) or / (a folder of PNGs)")


def default_path(run: Run, seed: int, num: int) -> Path:
    """In the run's own folder; a zoo entry is left as it is."""
    name = f"seed-{seed}-num-{num}.png"
    return Path(f"{run.path.name}-{name}") if run.is_exported else run.path / "samples" / name


def settle(options: argparse.Namespace) -> None:
    """`--per-label` or `--num`, whichever says how many images; UserError where both do, or options make no sense together."""
    if options.prompts is not None:
        options.per_label = options.per_label or PER_PROMPT
    if options.num and options.per_label:
        both = "--num and --prompts (--per-label images of each)" if options.prompts else "--num and --per-label"
        raise UserError(f"{both} both say how many images: give one of them")
    if options.same_noise and not options.per_label:
        raise UserError("--same-noise compares labels image by image: add --per-label N, or --prompts FILE")
    if options.realness and options.candidates:
        raise UserError("--realness judges images as the run draws them: leave --candidates out")
    options.num = options.num or 64


def run(arguments: list[str]) -> None:
    """Draw and write the images."""
    options = parser().parse_args(arguments)
    settle(options)
    if not 0 <= options.seed < 2**31:
        raise UserError(f"--seed {options.seed} is out of range: use 0 to 2147483647")
    source = find(options.run)
    model = load(source, options.checkpoint, options.device, options.trust)
    if not isinstance(model, ImageModel):
        raise UserError(f"{source.path} is a {type(model).__name__}, which draws nothing: name a generative run")
    labels = labels_for(options, model, source)
    if options.realness:
        write_realness(options, source, model, labels)
    else:
        write_samples(options, source, model, labels)


def draw_settings(options: argparse.Namespace, model: ImageModel) -> dict[str, Any]:
    """The options given, as `sample` of the model takes them; UserError for those that are of another family."""
    settings = step_settings(options, model)
    if options.candidates is None:
        return settings
    if not isinstance(model, Resamples):
        raise UserError(f"{options.run} is a {type(model).__name__}, which has no discriminator: --candidates is for GANs")
    return settings | {"num_candidates": options.candidates}


def write_samples(options: argparse.Namespace, source: Run, model: ImageModel, labels: Tensor | None) -> None:
    """Draw the images, of `labels` (N,), (N, K) or (N, L) where the model is conditional, and write them."""
    num = options.num if labels is None else len(labels)
    path = output_path(options.out, default_path(source, options.seed, num), options.force)
    images = to_uint8(model.sample(seeds_for(options, num), labels, **draw_settings(options, model))).cpu()
    texts = None if labels is None else label_texts(labels, source)
    metadata = {"Model": type(model).__name__, "Run": source.name, "Seed": str(options.seed)}
    if texts and is_prompted(options):
        metadata["Label"] = "\n".join(dict.fromkeys(texts))
    elif texts and options.per_label:
        metadata["Rows"] = ", ".join(row_names(options.label, source))
    write(Drawn(images, labels, texts), path, options.per_label, metadata)
    print(f"wrote {path}" + (f"; its rows: {metadata['Rows']}" if "Rows" in metadata and path.suffix == ".png" else ""))
