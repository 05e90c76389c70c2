"""genai compare: show scores and samples of runs or seeds side by side

Group: inspect
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image
from rich.console import Console

from genai.cli.options.arguments import VerbParser, positive, refuse
from genai.cli.options.labels import LabelOptions, sample_condition
from genai.cli.options.output import OutputOptions
from genai.cli.options.run import SAMPLE_IMAGES, LoadedRun, RunOptions, add_seed_option
from genai.errors import DamagedFileError, UserError
from genai.images import grid, save_png, side_by_side, titled, to_uint8
from genai.models.seeds import image_seeds
from genai.report.comparison import (
    Group,
    as_csv,
    as_json,
    as_markdown,
    check_protocols,
    find_groups,
    note_other_checkpoint,
    note_other_settings,
    score_table,
)
from genai.runs.files import as_json_text

NUM_IMAGES = 36


def parser() -> VerbParser:
    """The options of `genai compare`."""
    verb = VerbParser(
        "compare",
        "RUN... [options]",
        "Compare runs of one dataset, or groups of runs that differ in their seed (EXPERIMENT@seeds): print their test scores "
        "side by side, with mean, spread and Welch's t-test over seeds, and write a picture of real test images and samples of "
        "each. Scores of different protocols are refused.",
    )
    verb.add_argument(
        "runs", metavar="RUN", nargs="+", help="runs of one dataset, or EXPERIMENT@seeds, its newest of each seed"
    )
    RunOptions.add_model_options(verb)
    verb.add_argument("--num", type=positive, metavar="N", help=f"images in each panel (default: {NUM_IMAGES})")
    add_seed_option(verb, "seed of the samples (default: 0)", default=None)
    OutputOptions.add_to(verb)
    formats = verb.add_mutually_exclusive_group()
    for name in ("csv", "json", "markdown"):
        formats.add_argument(f"--{name}", action="store_true", help=f"print the scores as {name.upper()}, and write no picture")
    return verb


def run(arguments: list[str]) -> None:
    """Print the scores, and write the picture of models of images."""
    options = parser().parse(arguments)
    is_table = options.csv or options.json or options.markdown
    first = RunOptions.from_namespace(options)
    chosen = [(group, replace(first, run=str(group.runs[0].path))) for group in find_groups(options.runs)]
    has_picture = not is_table and not any(group.runs[0].is_text for group, _ in chosen)
    if not has_picture:
        given = [name for name in ("checkpoint", "device") if getattr(options, name) != getattr(RunOptions, name)]
        refuse(
            options, ("num", "seed", "out", "force", *given), "without a picture, which tables and models of text do not have"
        )
    path = OutputOptions.from_namespace(options).png(chosen[0][0].runs[0], "compare") if has_picture else None
    found = readable(chosen, has_samples=has_picture)
    groups = [group for group, _ in found]
    names = {run.record().get("data", "unknown data") for group in groups for run in group.runs}
    if len(names) > 1:
        raise UserError(f"the runs are of {' and '.join(sorted(names))}: compare runs of one dataset")
    check_protocols(groups)
    for group in groups:
        note_other_settings(group)
    for run in (group.runs[0] for group in groups if not group.tests()):
        print(f"{run.path} has no scores: `genai test {run.path}` measures them", file=sys.stderr)
    if options.csv or options.markdown:
        print(as_csv(groups) if options.csv else as_markdown(groups))
    elif options.json:
        print(as_json_text(as_json(groups)))
    else:
        if path is not None:
            num, seed = options.num or NUM_IMAGES, options.seed or 0
            picture([source for _, source in found if source], groups, names.pop(), num, seed, path)
        if any(group.tests() for group in groups):
            Console(highlight=False).print(score_table(groups))
        if path is not None:
            print(f"wrote {path}")


def readable(groups: Sequence[tuple[Group, RunOptions]], has_samples: bool) -> list[tuple[Group, LoadedRun | None]]:
    """The groups without a damaged file, with the model of the first run if `has_samples`; others are named on stderr.

    Raises:
        UserError: all have a damaged file, or one is no run, or no model that samples.
    """
    found: list[tuple[Group, LoadedRun | None]] = []
    for group, first in groups:
        try:
            for run in group.runs:
                run.record(), run.config(), run.scores()
            found.append((group, first.load(SAMPLE_IMAGES) if has_samples else None))
        except DamagedFileError as error:
            if len(groups) == 1:
                raise
            print(f"genai: {error}; it is left out", file=sys.stderr)
    if not found:
        raise UserError("none of the runs can be read: name others")
    return found


def picture(sources: list[LoadedRun], groups: list[Group], data: str, num: int, seed: int, path: Path) -> None:
    """Write real test images, if the data is here, and samples of the first run of each group, side by side."""
    panels = list[Image.Image]()
    try:
        split = sources[0].test_split()
        panels = [titled(grid(split.batch(range(min(num, len(split)))).images), f"real {data}")]
    except UserError as error:
        print(f"genai: {path} has no real images: {error}", file=sys.stderr)
    for source, group in zip(sources, groups, strict=True):
        note_other_checkpoint(source.run, source.run.scores().get("test", {}), source.model.images_seen)
        condition = sample_condition(LabelOptions(), num, source)
        images = source.model.sample(image_seeds(seed, num), condition)
        panels.append(titled(grid(to_uint8(images).cpu()), group.name))
    save_png(side_by_side(panels), path, {"Runs": ", ".join(source.run.name for source in sources), "Seed": str(seed)})
