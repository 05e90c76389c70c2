"""What reconstruct, denoise, interpolate and latents share: test images with their labels, and rows under rows."""

import argparse
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from genai.cli.options.arguments import VerbParser, positive
from genai.cli.options.images import asked, picture_parser, read_images, test_split
from genai.images import to_float
from genai.models.base import ImageModel
from genai.runs import Run

COLUMNS = 16
A_VAE = "a VAE run"


class Examples(NamedTuple):
    """Images (N, C, H, W) in [-1, 1], and what the model is told of them: (N,), (N, K) or None."""

    images: Tensor
    condition: Tensor | None


def examples_parser(name: str, description: str, num: int) -> VerbParser:
    """The options of a verb about some images."""
    verb = picture_parser(name, description)
    verb.add_argument("images", metavar="IMAGE", nargs="*", help="a picture file, or test/7; default: the first test images")
    verb.add_argument("--num", type=positive, default=num, help=f"test images, where none are named ({num})")
    return verb


def examples(options: argparse.Namespace, run: Run, model: ImageModel) -> Examples:
    """The images named, of which the model is told what --label says; or the first test images, with their own labels."""
    if options.images:
        images = read_images(options, run, model)
        return Examples(images, asked(options, model, run, len(images)))
    split = test_split(run, options.trust)
    images, labels = split.batch(range(min(options.num, len(split))))
    if model.conditional:
        return Examples(to_float(images), asked(options, model, run, len(images)) if options.label else labels)
    return Examples(to_float(images), None)


def stacked(rows: list[Tensor]) -> tuple[Tensor, int]:
    """Rows (N, C, H, W) in [-1, 1], one under the other, cut after 16 images -> tiles (M, C, H, W), and the columns.

    The last cut is filled with black.
    """
    columns = min(COLUMNS, len(rows[0]))
    missing = -len(rows[0]) % columns
    filled = [pad(row.cpu(), (0, 0) * 3 + (0, missing), value=-1.0) for row in rows]
    return torch.stack(filled).unflatten(1, (-1, columns)).transpose(0, 1).flatten(0, 2), columns
