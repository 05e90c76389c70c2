"""genai sample: generate images or text with a run or a zoo entry

Group: sample and edit

It runs in one process, never under torchrun, which would take `--num` for its own `--numa-binding`.
"""

import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from genai.cli.options.arguments import VerbParser, positive, refuse
from genai.cli.options.labels import LabelOptions, row_names, sample_condition
from genai.cli.options.output import OutputOptions, default_path
from genai.cli.options.realness import REALNESS, write_realness
from genai.cli.options.run import SAMPLE, LoadedRun, RequiredCapability, RunOptions, add_seed_option, require
from genai.cli.options.sampling import SamplerOptions
from genai.cli.options.text import TokenOptions
from genai.cli.options.watermark import check_key, marked_samples
from genai.cli.text_sampling import sample_text
from genai.data.words import labels_in_words
from genai.errors import UserError
from genai.files import open_atomically
from genai.images import grid, save_png, to_pil, to_uint8
from genai.models.capabilities import GeneratesText, Resamples
from genai.report.credentials import Certificate

RESAMPLE = RequiredCapability(Resamples, "choose among candidates with a discriminator", ("configs/digits/gan.yaml",))
DEFAULT_NUM = 64


def parser() -> VerbParser:
    """The options of `genai sample`."""
    verb = VerbParser("sample", "RUN [options]", "Generate images or text with a run or a zoo entry, one seed for each sample.")
    RunOptions.add_to(verb)
    verb.add_argument(
        "--num", type=positive, metavar="N", help=f"number of images (default: {DEFAULT_NUM}), or of texts (default: 1)"
    )
    add_seed_option(verb, "sample i depends on this seed and on i only (default: 0)")
    text = "latents per image; the discriminator chooses one of them (sampling-importance resampling)"
    verb.add_argument("--candidates", type=positive, metavar="N", help=text)
    text = "write the realness score of these images and of real ones: a CSV, and a PNG beside it"
    verb.add_argument("--realness", action="store_true", help=text)
    text = "mark the samples so that `genai detect` finds the key in them; see docs/tutorials/watermarks.md"
    verb.add_argument("--watermark", metavar="KEY", help=text)
    text = "sign the PNGs: content credentials (C2PA) with the certificate and key of this PEM file"
    verb.add_argument("--sign", metavar="CERT", type=Path, help=text)
    LabelOptions.add_sample_options(verb)
    SamplerOptions.add_to(verb)
    TokenOptions.add_to(verb)
    OutputOptions.add_to(verb, "grid.png, folder/ (one PNG per image) or samples.npz; of text samples.txt", "; no file of text")
    return verb


def run(arguments: list[str]) -> None:
    """Generate and write the images."""
    options = parser().parse(arguments)
    run, output = RunOptions.from_namespace(options), OutputOptions.from_namespace(options)
    labels, tokens = LabelOptions.from_namespace(options).with_per_label(options.num), TokenOptions.from_namespace(options)
    if options.realness:
        sampler = [field.name for field in fields(SamplerOptions)]
        refuse(options, [*sampler, "candidates", "watermark", "sign"], "on --realness, which scores the model's own samples")
    check_key(options.watermark)
    certificate = None if options.sign is None else Certificate.read(options.sign)
    source = run.load(SAMPLE)
    if isinstance(source.model, GeneratesText):
        refuse_image_options(options, source)
        sample_text(source, options.num, options.seed, options.prompt, tokens, output, options.watermark)
        return
    if not tokens.is_empty:
        raise UserError(f"{source.run.path} generates images: leave --tokens, --temperature, --top-k and --top-p out")
    condition = sample_condition(labels, options.num or DEFAULT_NUM, source)
    num = len(condition) if condition is not None else options.num or DEFAULT_NUM
    seeds = labels.seeds(options.seed, num)
    if options.realness:
        require(source.run, source.model, REALNESS)
        write_realness(source, seeds, condition, options.seed, output)
        return
    path = output.path(default_path(source.run, f"seed-{options.seed}-num-{num}.png"))
    is_folder = path.is_dir() or (output.out or "").endswith("/")
    if path.suffix not in ("", ".png", ".npz") and not is_folder:
        raise UserError(f"--out {path} should end in .png (a grid), .npz (arrays) or / (a folder of PNGs)")
    if certificate is not None and path.suffix == ".npz":
        raise UserError("--sign signs PNGs: use --out grid.png or --out folder/")
    settings = SamplerOptions.from_namespace(options).settings(source, run.device)
    if options.candidates:
        require(source.run, source.model, RESAMPLE)
        settings["num_candidates"] = options.candidates
    if options.watermark is None:
        samples = source.model.sample(seeds, condition, **settings)
    else:
        samples = marked_samples(source, options.watermark, seeds, condition, settings)
    images = to_uint8(samples).cpu()
    texts = None if condition is None else labels_in_words(condition, source.run.record()["class_names"])
    metadata = {"Model": type(source.model).__name__, "Run": source.run.name, "Seed": str(options.seed)}
    metadata |= row_metadata(labels, texts, source) | ({"Shares": labels.shares} if labels.shares else {})
    metadata |= {} if options.watermark is None else {"Watermark": "genai detect finds it with the key"}
    written = write(Samples(images, condition, texts), path, labels.per_label, metadata)
    if certificate is not None:
        for picture in written:
            certificate.sign(Path(picture))
    rows = f" (rows: {metadata['Rows']})" if "Rows" in metadata and path.suffix == ".png" else ""
    print(f"wrote {path}{rows}")


def refuse_image_options(options: Any, source: LoadedRun) -> None:
    """Raise UserError for an option of images that is given with a model of text."""
    groups = (fields(LabelOptions), fields(SamplerOptions))
    images_only = [field.name for group in groups for field in group if field.name != "prompt"]
    refuse(
        options, [*images_only, "sign", "candidates", "realness"], f"on a {type(source.model).__name__}, which generates text"
    )


class Samples(NamedTuple):
    """Images uint8 (N, C, H, W); of a conditional model also their condition (N,), (N, K) or (N, L), and it as text."""

    images: Tensor
    condition: Tensor | None
    texts: list[str] | None


def row_metadata(labels: LabelOptions, texts: list[str] | None, source: LoadedRun) -> dict[str, str]:
    """The prompts, or the label of each row, as PNG metadata."""
    if texts and labels.has_prompt:
        return {"Label": "\n".join(dict.fromkeys(texts))}
    if texts and labels.per_label:
        return {"Rows": ", ".join(row_names(labels.label, source))}
    return {}


def write(samples: Samples, path: Path, columns: int | None, metadata: dict[str, str]) -> list[Path]:
    """Write what the path's suffix says: .png a grid, .npz arrays; otherwise a folder of PNGs. Returns the files."""
    if path.suffix == ".png":
        save_png(grid(samples.images, columns), path, metadata)
        return [path]
    if path.suffix == ".npz":
        write_npz(samples, path)
        return [path]
    pictures = [path / f"{i:05d}.png" for i in range(len(samples.images))]
    for i, (picture, image) in enumerate(zip(pictures, samples.images, strict=True)):
        own = {"Index": str(i)} | ({} if samples.texts is None else {"Label": samples.texts[i]})
        save_png(to_pil(image), picture, metadata | own)
    remove_earlier(path, len(pictures))
    return pictures


def remove_earlier(folder: Path, num: int) -> None:
    """Remove the samples of an earlier command from image `num` on, which would be taken for samples of this one.

    Other pictures in the folder stay, and a line on stderr names one of them.
    """
    written = {f"{i:05d}.png" for i in range(num)}
    others = sorted(path for path in folder.glob("*.png") if path.name not in written)
    earlier = {path for path in others if path.stem.isdecimal() and is_sample(path)}
    for path in earlier:
        path.unlink()
    if earlier:
        print(f"genai: removed {len(earlier)} samples of an earlier command from {folder}", file=sys.stderr)
    if kept := [path.name for path in others if path not in earlier]:
        print(f"genai: {folder} holds {len(kept)} other pictures, such as {kept[0]}", file=sys.stderr)


def is_sample(path: Path) -> bool:
    """Whether `genai sample` wrote this PNG."""
    try:
        with Image.open(path) as picture:
            return {"Model", "Run", "Seed", "Index"} <= picture.info.keys()
    except (OSError, ValueError):
        return False


def write_npz(samples: Samples, path: Path) -> None:
    """`images` uint8 (N, H, W) or (N, H, W, 3), and `labels` (N,), (N, K) or (N, L) of a conditional model."""
    array = samples.images.numpy()
    arrays: dict[str, Any] = {"images": array[:, 0] if array.shape[1] == 1 else array.transpose(0, 2, 3, 1)}
    if samples.condition is not None:
        arrays["labels"] = samples.condition.numpy()
    with open_atomically(path) as file:
        np.savez_compressed(file, **arrays)
