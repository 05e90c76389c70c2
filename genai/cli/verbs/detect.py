"""genai detect: find the watermark of a key in images or text

Group: inspect
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from genai.cli.options.arguments import VerbParser
from genai.cli.options.images import note_other_size, read_picture
from genai.cli.options.run import RUN_HELP, LoadedRun, RequiredCapability, RunOptions
from genai.cli.options.text import file_texts
from genai.cli.options.watermark import check_key, mark_p_values
from genai.errors import NothingFound, UserError
from genai.images import to_float
from genai.metrics.tables import WrappedTable
from genai.models.base import ImageModel
from genai.models.capabilities import GeneratesText
from genai.models.watermarks import GreenList
from genai.report.pictures import read_pictures
from genai.runs import find
from genai.runs.text import tokenizer_of

PRESETS = ("configs/digits/diffusion.yaml", "configs/shakespeare/gpt.yaml")
SAMPLE = RequiredCapability((ImageModel, GeneratesText), "sample images or text", PRESETS)
ALPHA = 0.01
MAX_ROWS = 20


def parser() -> VerbParser:
    """The options of `genai detect`."""
    verb = VerbParser(
        "detect",
        "FILE... --run RUN --key KEY [options]",
        "Test images or a text for the watermark that `genai sample RUN --watermark KEY` puts in. The p-value is the "
        "probability of such an agreement if the key has nothing to do with the file. The exit status is 1 if no mark is "
        "found; of several files, if it is not found in all of them together.",
    )
    text = "an image, or a folder, .zip or .npz of images of the model's size; for a model of text a text file"
    verb.add_argument("files", metavar="FILE", nargs="+", help=text)
    verb.add_argument("--run", metavar="RUN", required=True, help=RUN_HELP)
    verb.add_argument("--key", metavar="KEY", required=True, help="the key that the samples were marked with")
    RunOptions.add_model_options(verb)
    return verb


def run(arguments: list[str]) -> None:
    """Print a p-value for each image or text, and one for all images together.

    Raises:
        NothingFound: the p-value, of several files that for all together, is not below ALPHA.
    """
    options = parser().parse(arguments)
    check_key(options.key)
    find(options.run)
    missing = next((name for name in options.files if not Path(name).exists()), None)
    if missing is not None:
        raise UserError(f"there is no file {missing}: name an image, a folder, an .npz or a text file")
    source = RunOptions.from_namespace(options).load(SAMPLE)
    if isinstance(source.model, GeneratesText):
        names, p_values = read_texts(options.files, options.key, source)
    else:
        names, images = read_files(options.files, source.model.image_shape)
        p_values = mark_p_values(source, options.key, images).tolist()
    if show(names, p_values) >= ALPHA:
        raise NothingFound


def read_texts(files: Sequence[str], key: str, source: LoadedRun) -> tuple[list[str], list[float]]:
    """The names and the p-values of the key in text files; those of each sample of a file of several."""
    names, p_values = list[str](), list[float]()
    for name in files:
        texts = file_texts(name, tokenizer_of(source.run))
        names += [name] if len(texts) == 1 else [f"{name}:{i}" for i in range(len(texts))]
        p_values += [GreenList(key).p_value(text.tolist(), source.model.vocab_size)[0] for text in texts]
    return names, p_values


def read_files(files: Sequence[str], shape: tuple[int, int, int]) -> tuple[list[str], Tensor]:
    """The names and the images (N, C, H, W) in [-1, 1] of image files, folders, zips and .npz files."""
    names: list[str] = []
    images: list[Tensor] = []
    for name in files:
        path = Path(name)
        if path.is_dir() or path.suffix in (".npz", ".zip", ".tar", ".gz"):
            found = read_pictures(path, shape, at_least=1)[0]
            names += [f"{path}:{i}" for i in range(len(found))]
            images += list(to_float(found))
        else:
            note_other_size(name, shape[1])
            names.append(name)
            images.append(to_float(read_picture(name, shape[1], shape[0], "image", "a PNG or JPEG")))
    return names, torch.stack(images)


def show(names: Sequence[str], p_values: Sequence[float]) -> float:
    """Print the table and, for several files, how many have the mark; returns the p-value of all together."""
    rows = [[name, f"{p:.2g}", "marked" if p < ALPHA else "no mark found"] for name, p in zip(names, p_values, strict=True)]
    Console(highlight=False).print(WrappedTable(("file", "p-value", f"at p < {ALPHA:g}"), rows[:MAX_ROWS]))
    if len(rows) > MAX_ROWS:
        print(f"... and {len(rows) - MAX_ROWS:,} more")
    if len(rows) == 1:
        return p_values[0]
    num = sum(p < ALPHA for p in p_values)
    together = combined(p_values)
    print(f"{num:,} of {len(rows):,} are marked; {ALPHA * len(rows):.3g} expected without a mark (p = {together:.2g})")
    return together


def combined(p_values: Sequence[float]) -> float:
    """One p-value of N files that one key is tested in: twice the smaller of N min p (Bonferroni) and 2 median p (Rueger 1978).

    The p-values are those of one random key, so that alike files have alike p-values. Both bounds hold for any dependence
    (Vovk & Wang 2020, arXiv:1212.4966).
    """
    p = np.sort(p_values)
    return float(min(1.0, 2 * min(len(p) * p[0], len(p) / (k := -(-len(p) // 2)) * p[k - 1])))
