"""genai interpolate: from one image to another through the latent space."""

import argparse

import torch
from torch import Tensor

from genai.cli.options.arguments import VerbParser, positive
from genai.cli.options.codes import A_VAE
from genai.cli.options.images import asked, load_capable, picture_parser, read_images, write_rows
from genai.cli.options.labels import label_kind, labels_for
from genai.control.paths import PATHS, lerp
from genai.errors import UserError
from genai.models.base import ImageModel
from genai.models.capabilities import Decodes, Encodes
from genai.models.seeds import image_seeds
from genai.runs import Run


def parser() -> VerbParser:
    """The options of `genai interpolate`."""
    verb = picture_parser("interpolate", "Draw what lies between two pictures, or between the samples of two seeds.")
    verb.add_argument(
        "images",
        metavar="END",
        nargs="*",
        help="two picture files or test/7, or two seeds such as 3 and 8 (image 0 of `genai sample --seed`); "
        "default: --num pairs of samples",
    )
    verb.add_argument("--num", type=positive, default=6, help="pairs of samples, where no ends are named (6)")
    verb.add_argument("--points", type=positive, default=9, help="images from end to end, both included (9)")
    verb.add_argument("--path", choices=list(PATHS), default="slerp", help="an arc, or a straight line (slerp)")
    return verb


def run(arguments: list[str]) -> None:
    """Draw a row for each pair of ends."""
    options = parser().parse_args(arguments)
    if len(options.images) not in (0, 2):
        raise UserError(f"{len(options.images)} ends are no pair: name two pictures, two seeds, or none")
    pictured = any(not name.isdecimal() for name in options.images)
    capability, who = (Encodes, A_VAE) if pictured else (Decodes, "a VAE or GAN run")
    source, model = load_capable(options, capability, "interpolate between pictures" if pictured else "interpolate", who)
    z_a, z_b, shown = picture_ends(options, source, model) if pictured else seed_ends(options, model)
    shares = torch.linspace(0, 1, options.points, device=z_a.device)
    path = row_by_row(PATHS[options.path](z_a, z_b, shares))
    told = asked(options, model, source, len(path)) if pictured else told_between(options, model, source, len(z_a), shares)
    drawn = model.decode(path, told).cpu().unflatten(0, (len(z_a), -1))
    row = drawn if shown is None else torch.cat([shown[:1, None], drawn, shown[1:, None]], dim=1)
    write_rows(options, source, model, row.flatten(0, 1), row.shape[1], "interpolate")


def row_by_row(points: Tensor) -> Tensor:
    """(points, N, D) -> (N * points, D)."""
    return points.transpose(0, 1).flatten(0, 1)


def told_between(options: argparse.Namespace, model: Decodes, run: Run, num: int, shares: Tensor) -> Tensor | None:
    """What the points between `num` pairs of samples are asked to be, row by row: (num * points,), (num * points, K) or None.

    The samples are asked for what `genai sample` asks for. Attributes go straight from those of one to those of the other; a
    class is that of both.
    """
    assert isinstance(model, ImageModel)
    attributes = model.conditional and label_kind(run, options.trust) == "attributes"
    options = argparse.Namespace(**(vars(options) | {"num": 2 * num if attributes else num}))
    labels = labels_for(options, model, run)
    if labels is None:
        return None
    if not attributes:
        return labels.repeat_interleave(len(shares), dim=0)
    labels = labels.to(shares.device)
    return row_by_row(lerp(labels[0::2], labels[1::2], shares))


def picture_ends(options: argparse.Namespace, run: Run, model: Encodes) -> tuple[Tensor, Tensor, Tensor | None]:
    """Codes (1, D) of the two pictures, and the pictures (2, C, H, W)."""
    assert isinstance(model, ImageModel)
    images = read_images(options, run, model)
    codes = model.encode(images, asked(options, model, run, 2))
    return codes[:1], codes[1:], images


def seed_ends(options: argparse.Namespace, model: Decodes) -> tuple[Tensor, Tensor, None]:
    """Latents (N, D) of the two seeds, or of pairs of samples of --seed."""
    seeds = [image_seeds(int(name), 1)[0] for name in options.images] or image_seeds(options.seed, 2 * options.num)
    z = model.latents(seeds)
    return z[0::2], z[1::2], None
