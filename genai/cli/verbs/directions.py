"""genai directions: find latent directions that change one attribute

Group: sample and edit
"""

from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from genai.cli.options.arguments import VerbParser, count, positive
from genai.cli.options.labels import LabelOptions, condition_or_labels
from genai.cli.options.output import OutputOptions, checked
from genai.cli.options.predictor import add_predictor_option
from genai.cli.options.run import DECODE, RunOptions, add_seed_option
from genai.control.direction_files import DirectionSet, save_directions
from genai.control.directions import Direction, Scored, supervised, unsupervised
from genai.control.predictors import exclusive_attributes, load_predictor
from genai.control.spaces import EditSpace, Points, edit_space
from genai.errors import UserError
from genai.images import annotated, save_png, to_uint8
from genai.metrics.tables import WrappedTable
from genai.models.seeds import image_seeds
from genai.runs import Run
from genai.runs.export import DIRECTIONS

SHOWN = (-2.0, -1.0, 0.0, 1.0, 2.0)  # steps of the picture


def parser() -> VerbParser:
    """The options of `genai directions`."""
    verb = VerbParser(
        "directions",
        "RUN [options]",
        "Find a direction for each attribute that a predictor reads from samples (InterFaceGAN), and directions without labels "
        "(SeFa, GANSpace). They are saved for `genai edit`, with a picture of their steps; the table has the AUC for held-out "
        "samples, beside random directions.",
    )
    RunOptions.add_to(verb)
    verb.add_argument("--num", type=positive, default=4000, metavar="N", help="number of samples (default: 4000)")
    verb.add_argument("--attributes", metavar="A,B", help="attributes or classes; default: all that the predictor knows")
    text = "directions of SeFa and of GANSpace, of each (default: 3)"
    verb.add_argument("--unsupervised", type=count, default=3, metavar="N", help=text)
    add_predictor_option(verb, "reads the attributes of the samples")
    add_seed_option(verb, "seed of the samples (default: 0)")
    LabelOptions.add_to(verb, default="labels of training images", text=False)
    group = verb.add_argument_group("output")
    default = f"RUN/{DIRECTIONS} (zoo entry: in the current folder)"
    group.add_argument("--out", metavar="PATH", help=f"file of directions, with its picture beside it; default: {default}")
    group.add_argument("--force", action="store_true", help="replace them")
    return verb


def run(arguments: list[str]) -> None:
    """Find the directions, print their table and write both files."""
    options = parser().parse(arguments)
    run, output = RunOptions.from_namespace(options), OutputOptions.from_namespace(options)
    path, picture = output_files(output, run.find())
    source = run.load(DECODE)
    data = source.data("fit")
    predictor = load_predictor(options.predictor, data, source.trust)
    wanted = options.attributes.split(",") if options.attributes else predictor.attributes
    for name in wanted:
        predictor.index(name)
    space = edit_space(source.model)
    condition = condition_or_labels(LabelOptions.from_namespace(options), options.num, source, data.split("train"))
    points = space.points(image_seeds(options.seed, options.num), condition)
    images = space.decode(points)
    scored = Scored(points.x.float().cpu(), predictor.scores(to_uint8(images)), predictor.attributes)
    exclusive = exclusive_attributes(
        predictor.attributes, predictor.num_exclusive, source.run.record().get("label_exclusive", ())
    )
    found, skipped = supervised(scored, exclusive, wanted)
    print("".join(f"{line}\n" for line in skipped), end="")
    if options.unsupervised:
        found += unsupervised(space, points, images, scored, options.unsupervised)
    if not found:
        raise UserError("no direction was found: raise --num, or choose other --attributes")
    about = (source.model.images_seen, predictor.name, predictor.sha256, options.num, options.seed)
    save_directions(path, DirectionSet(found, space.name, *about))
    metadata = {"Model": type(source.model).__name__, "Run": source.run.name, "Verb": "directions", "Seed": str(options.seed)}
    tiles, middle = rows_of_steps(space, points[:1], found), len(SHOWN) // 2
    names = [direction.name for direction in found]
    heads = ["sample" if i == middle else f"{step:+g}" for i, step in enumerate(SHOWN)]
    save_png(annotated(tiles, len(SHOWN), names, heads), picture, metadata)
    print_table(found, f"{options.num:,} samples, space {space.name}, attributes read by `{predictor.name}`")
    print(f"wrote {path} and {picture}")


def output_files(output: OutputOptions, run: Run) -> tuple[Path, Path]:
    """The file of directions and its picture; UserError where one of them exists, without --force."""
    default = Path(f"{run.full_path.name}-{DIRECTIONS}") if run.is_exported else run.path / DIRECTIONS
    path = checked(Path(output.out) if output.out else default, output.force)
    if path.suffix != ".safetensors":
        raise UserError(f"--out {path} should end in .safetensors; the picture is written beside it as {path.stem}.png")
    return path, checked(path.with_suffix(".png"), output.force)


def rows_of_steps(space: EditSpace, point: Points, directions: list[Direction]) -> Tensor:
    """Images of one point moved along each direction, row by row: uint8 (len(directions) * steps, C, H, W)."""
    moves = torch.cat([torch.tensor(SHOWN)[:, None] * one.unit * one.vector for one in directions])
    return to_uint8(space.decode(point[[0] * len(moves)].moved(moves)))


def print_table(directions: list[Direction], caption: str) -> None:
    """A row for each direction."""
    columns = ("direction", "reads", "AUC", "random", "unit")
    rows = [(d.name, d.attribute, f"{d.auc:.3f}", f"{d.random_auc:.3f}", f"{d.unit:.2f}") for d in directions]
    Console().print(WrappedTable(columns, rows, caption=f"AUC for held-out samples; {caption}"))
