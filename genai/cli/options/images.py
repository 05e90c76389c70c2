"""What vary, inpaint, upscale and diffuse share: pictures in, a grid of tiles out."""

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genai.cli.options.arguments import VerbParser, add_trust_option, output_path, positive
from genai.cli.options.labels import label_examples, label_kind, labels_for
from genai.cli.options.prompts import is_prompted
from genai.cli.options.sampling import add_step_options
from genai.data.base import ImageArray
from genai.data.decoding import decode_image
from genai.errors import UserError
from genai.images import grid, save_png, to_float, to_uint8
from genai.models.base import ImageModel
from genai.runs import Run, find, load
from genai.runs.data import data_of


def run_parser(name: str, description: str) -> VerbParser:
    """The options of a verb that writes what a run makes."""
    verb = VerbParser(prog=f"genai {name}", description=description)
    verb.add_argument("run", metavar="RUN", help="run directory, experiment (its newest run) or zoo/NAME")
    verb.add_argument("--seed", type=int, default=0, help="of the noise (0)")
    verb.add_argument("--force", action="store_true", help="write over --out if it is there")
    verb.add_argument("--checkpoint", default="best", help="best, last or a file")
    verb.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    add_trust_option(verb)
    return verb


def picture_parser(name: str, description: str) -> VerbParser:
    """The options of a verb that writes a PNG of what it draws."""
    verb = run_parser(name, description)
    verb.add_argument("--label", help="4, or a class name; of attributes: glasses,no-beard; default: say nothing")
    verb.add_argument("--out", help="the PNG to write; default: a new one in RUN/samples (zoo: here)")
    verb.set_defaults(per_label=None, prompt=None, prompts=None, same_noise=False)
    return verb


def edit_parser(name: str, description: str) -> VerbParser:
    """The options of a verb that edits pictures step by step."""
    verb = picture_parser(name, description)
    verb.add_argument("--prompt", metavar="TEXT", help="of a model of text: what to draw")
    verb.add_argument("--unknown-words", action="store_true", help="draw in spite of words that no training caption has")
    add_step_options(verb)
    return verb


def add_image_options(verb: VerbParser, num: int) -> None:
    """The pictures to change, and how many results of each."""
    verb.add_argument("images", metavar="IMAGE", nargs="+", help="a picture file, or test/7: the run's own test image 7")
    verb.add_argument("--num", type=positive, default=num, help=f"results of each image ({num})")


def load_capable(options: argparse.Namespace, capability: Any, verb: str, who: str = "a diffusion run") -> tuple[Run, Any]:
    """The run and its model, which has `capability`, one of the protocols of models/base.py; `who` can.

    Raises:
        UserError: the model cannot do what the verb asks, or the options are out of range.
    """
    if not 0 <= options.seed < 2**31:
        raise UserError(f"--seed {options.seed} is out of range: use 0 to 2147483647")
    source = find(options.run)
    if "out" in options:
        picture_path(options, source, verb)
    model = load(source, options.checkpoint, options.device, options.trust)
    if not isinstance(model, capability):
        raise UserError(f"{source.path} is a {type(model).__name__}, which cannot {verb}: name {who}")
    return source, model


def read_images(options: argparse.Namespace, run: Run, model: ImageModel) -> Tensor:
    """The pictures as the model takes them: (N, C, H, W) float in [-1, 1]."""
    return torch.stack([read_image(name, run, model, options.trust) for name in options.images])


def read_image(name: str, run: Run, model: ImageModel, trust: list[str]) -> Tensor:
    """A picture file, its central square reduced to the model's size, or an image of the run's test split: (C, H, W).

    Raises:
        UserError: it is not there, or cannot be read.
    """
    channels, size, _ = model.image_shape
    number = name.removeprefix("test/")
    if number != name and number.isdecimal():
        return to_float(test_image(int(number), run, trust))
    return to_float(read_picture(name, size, channels, "picture", "a file, or test/0 for the first test image of the run"))


def read_picture(name: str, size: int, channels: int, what: str, choice: str) -> Tensor:
    """The central square of a picture file, uint8 (channels, size, size).

    Raises:
        UserError: there is no such file, or it cannot be read; `what` and `choice` say what was looked for.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, about odd metadata
            return torch.from_numpy(decode_image(Path(name).read_bytes(), size, channels).copy())
    except FileNotFoundError:
        raise UserError(f"there is no {what} {name}: name {choice}") from None
    except Exception as error:  # Pillow raises nearly anything on damaged bytes
        raise UserError(f"the {what} {name} cannot be read ({type(error).__name__}): name a PNG or JPEG") from None


def test_split(run: Run, trust: list[str]) -> ImageArray:
    """The test split of the run's data."""
    data = data_of(run, trust)
    data.prepare_data()
    data.setup("test")
    return data.split("test")


def test_image(index: int, run: Run, trust: list[str]) -> Tensor:
    """Image `index` of the test split, uint8 (C, H, W)."""
    images = test_split(run, trust).images
    if index >= len(images):
        raise UserError(f"there is no test/{index}: the test split has {len(images)} images, test/0 to test/{len(images) - 1}")
    return torch.from_numpy(images[index].copy())


def asked(options: argparse.Namespace, model: ImageModel, run: Run, num: int) -> Tensor | None:
    """What each of `num` images is asked to be; where the options say nothing, a label that says nothing."""
    options = argparse.Namespace(**(vars(options) | {"num": num}))
    if options.label or is_prompted(options) or not model.conditional:
        return labels_for(options, model, run)
    return nothing_said(run, model, num, options.trust)


def nothing_said(run: Run, model: ImageModel, num: int, trust: Sequence[str]) -> Tensor:
    """Labels that ask a conditional model for nothing: (num,), (num, K) or (num, L)."""
    kind = label_kind(run, trust)
    if kind == "text":
        return torch.zeros_like(label_examples(run)[:1]).repeat(num, 1)
    return torch.full((num,), -1) if kind == "class" else torch.full((num, model.num_classes), 0.5)


def picture_path(options: argparse.Namespace, run: Run, verb: str) -> Path:
    """The PNG to write.

    Raises:
        UserError: it is there already, or would be no PNG.
    """
    default = Path(f"{run.path.name}-{verb}.png") if run.is_exported else run.path / "samples" / f"{verb}.png"
    path = output_path(options.out, default, options.force)
    if path.suffix != ".png" or path.is_dir():
        raise UserError(f"--out {path} should be the name of a file that ends in .png")
    return path


def write_rows(options: argparse.Namespace, run: Run, model: ImageModel, tiles: Tensor, columns: int, verb: str) -> None:
    """Write tiles (N, C, H, W) in [-1, 1], row by row, `columns` in each."""
    path = picture_path(options, run, verb)
    metadata = {"Model": type(model).__name__, "Run": run.name, "Seed": str(options.seed), "Verb": verb}
    said = options.label if options.prompt is None else options.prompt
    metadata |= {"Label": said} if said else {}
    save_png(grid(to_uint8(tiles), columns), path, metadata)
    print(f"wrote {path}")


def rows_of(first: list[Tensor], results: Tensor) -> Tensor:
    """Tiles of a grid: in each row one of each of `first` (N, C, H, W), then its `results` (N * num, C, H, W)."""
    num = len(results) // len(first[0])
    rows = [
        torch.stack([*(tile[i].cpu() for tile in first), *results[i * num : (i + 1) * num].cpu()]) for i in range(len(first[0]))
    ]
    return torch.cat(rows)
