"""genai edit: change attributes of samples or pictures along directions

Group: sample and edit
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from genai.cli.options.arguments import VerbParser, finite, positive, refuse
from genai.cli.options.images import IMAGE_HELP, note_other_size, read_images
from genai.cli.options.labels import LabelOptions, edit_condition, has_null_condition, label_kind, sample_condition
from genai.cli.options.output import OutputOptions
from genai.cli.options.run import DECODE, LoadedRun, RunOptions, add_seed_option
from genai.control.condition_edits import edited_condition
from genai.control.direction_files import DirectionSet, check_space, load_directions
from genai.control.inversion import invert
from genai.control.spaces import EditSpace, Points, edit_space
from genai.images import annotated, save_png, to_uint8
from genai.models.seeds import image_seeds
from genai.runs.export import DIRECTIONS

NUM_SAMPLES = 6
SAMPLES = 500  # from which an inversion starts


Edit = Callable[[Points], Points]


class Setting(NamedTuple):
    """A direction by name, and the step to take along it."""

    name: str
    step: float


def setting(text: str) -> Setting:
    """`glasses=1` or `age=-0.5`."""
    name, _, step = text.partition("=")
    if not name or not step:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=STEP, such as glasses=1")
    return Setting(name, finite(step))


def parser() -> VerbParser:
    """The options of `genai edit`."""
    verb = VerbParser(
        "edit",
        "RUN --set NAME=STEP... [--image IMAGE...] [options]",
        "Change attributes along directions that `genai directions` has saved, or in the condition of a diffusion model: a row "
        "for each image, with the original first. Pictures are inverted first, by the encoder, the sampler backwards or "
        "optimisation; the row then has the reconstruction too.",
    )
    RunOptions.add_to(verb)
    text = (
        "direction and step: 1 goes from images without the attribute to those with it, -1 back; may be repeated. Without such "
        "a direction: an attribute, class or word of the condition"
    )
    verb.add_argument("--set", dest="settings", type=setting, action="append", required=True, metavar="NAME=STEP", help=text)
    verb.add_argument("--image", dest="images", nargs="+", default=[], metavar="IMAGE", help=f"{IMAGE_HELP}; default: samples")
    verb.add_argument("--num", type=positive, metavar="N", help=f"samples, without --image (default: {NUM_SAMPLES})")
    verb.add_argument("--directions", metavar="FILE", help=f"saved directions; default: RUN/{DIRECTIONS}")
    add_seed_option(verb)
    LabelOptions.add_to(verb, default="that of `genai sample`", text=False)
    OutputOptions.add_to(verb)
    return verb


def run(arguments: list[str]) -> None:
    """Write the rows, and print the error of each reconstruction."""
    options = parser().parse(arguments)
    if options.images:
        refuse(options, ("num",), "with --image")
    num = options.num or NUM_SAMPLES
    run, labels = RunOptions.from_namespace(options), LabelOptions.from_namespace(options)
    path = OutputOptions.from_namespace(options).png(run.find(), "edit")
    source = run.load(DECODE)
    space = edit_space(source.model)
    edits = edits_of(options.settings, options.directions, space, source)
    heads = [*(f"{name}={step:g}" for name, step in options.settings), *(["all"] if len(edits) > len(options.settings) else [])]
    if options.images:
        for name in options.images:
            note_other_size(name, source.model.image_shape[-1])
        pictures = read_images(options.images, source)
        samples = space.points(image_seeds(options.seed, SAMPLES), sample_condition(labels, SAMPLES, source))
        own = edit_condition(labels, len(pictures), source) if has_null_condition(source.model) else None
        inverted = invert(space, pictures, samples, own)
        points, first = inverted.points, [pictures, space.decode(inverted.points)]
        heads = ["picture", "inverted", *heads]
        for name, rmse in zip(options.images, inverted.rmse.tolist(), strict=True):
            print(f"{name}: inverted with an error of {127.5 * rmse:.1f} of 255 (RMSE)")
    else:
        points = space.points(image_seeds(options.seed, num), sample_condition(labels, num, source))
        first, heads = [space.decode(points)], ["sample", *heads]
    columns = torch.stack([*first, *(space.decode(edit(points)) for edit in edits)], dim=1)  # (N, columns, C, H, W)
    what = " ".join(f"{name}={step:g}" for name, step in options.settings)
    metadata = {"Model": type(source.model).__name__, "Run": source.run.name, "Verb": "edit", "Edits": what}
    tiles = to_uint8(columns.flatten(0, 1))
    save_png(annotated(tiles, len(heads), heads=heads), path, metadata | {"Seed": str(options.seed)} | labels.metadata())
    print(f"wrote {path}")


def edits_of(settings: Sequence[Setting], file: str | None, space: EditSpace, source: LoadedRun) -> list[Edit]:
    """An edit of points for each setting, along a saved direction or of the condition, and one with all of them.

    Raises:
        UserError: there is neither such a direction nor such a label in the condition.
    """
    model, path = source.model, Path(file or source.run.path / DIRECTIONS)
    names, kind = source.run.record()["class_names"], label_kind(source)
    is_label = model.conditional and space.name != "w"
    found = None
    if file or path.is_file() or not is_label:
        found = load_directions(path, model.images_seen)
    pairs = source.run.record().get("label_exclusive", ())
    edits: list[Edit] = []
    for name, step in settings:
        if found is not None and (not is_label or name in [direction.name for direction in found.directions]):
            direction = found.named(name)
            edits.append(partial(moved, found, space, step * direction.unit * direction.vector))
        else:
            edits.append(partial(relabelled, name, step, names, kind, pairs))
    return [*edits, partial(in_turn, edits)] if len(edits) > 1 else edits


def moved(found: DirectionSet, space: EditSpace, by: Tensor, points: Points) -> Points:
    """Points moved along a direction of this space."""
    check_space(found, space, points)
    return points.moved(by)


def relabelled(
    name: str, step: float, names: Sequence[str], kind: str, pairs: Sequence[Sequence[str]], points: Points
) -> Points:
    """Points with another condition."""
    assert points.condition is not None
    return Points(points.x, edited_condition(points.condition, name, step, names, kind, pairs))


def in_turn(edits: Sequence[Edit], points: Points) -> Points:
    """Points with all edits."""
    for edit in edits:
        points = edit(points)
    return points
