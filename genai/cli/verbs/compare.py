"""genai compare: show scores and samples of several runs side by side

Group: inspect
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console

from genai.cli.options.arguments import VerbParser, positive
from genai.cli.options.labels import LabelOptions, sample_condition
from genai.cli.options.output import OutputOptions
from genai.cli.options.run import Loaded, RunOptions, add_seed_option
from genai.cli.verbs.runs import readable_scores
from genai.cli.verbs.sample import SAMPLE
from genai.errors import DamagedFileError, UserError
from genai.images import grid, save_png, side_by_side, titled, to_uint8
from genai.metrics.registry import all_metrics
from genai.metrics.tables import WrappedTable
from genai.models.seeds import image_seeds


def parser() -> VerbParser:
    """The options of `genai compare`."""
    verb = VerbParser(
        "compare",
        "RUN... [options]",
        "Compare runs of one dataset: print their test scores side by side, and write a picture of real test images and "
        "samples of each run.",
    )
    verb.add_argument("runs", metavar="RUN", nargs="+", help="runs of one dataset")
    RunOptions.add_model_options(verb)
    verb.add_argument("--num", type=positive, default=36, metavar="N", help="images in each panel (default: 36)")
    add_seed_option(verb)
    OutputOptions.add_to(verb)
    return verb


def run(arguments: list[str]) -> None:
    """Print the scores and write the picture."""
    options = parser().parse(arguments)
    runs = [replace(RunOptions.from_namespace(options), run=name) for name in options.runs]
    path = OutputOptions.from_namespace(options).png(runs[0].find(), "compare")
    sources = loadable(runs)
    names = {source.run.record().get("data", "unknown data") for source in sources}
    if len(names) > 1:
        raise UserError(f"the runs are of {' and '.join(sorted(names))}: compare runs of one dataset")
    split = sources[0].test_split()
    real = split.batch(range(min(options.num, len(split)))).images
    panels = [titled(grid(real), f"real {names.pop()}")]
    for source in sources:
        condition = sample_condition(LabelOptions(), options.num, source)
        images = source.model.sample(image_seeds(options.seed, options.num), condition)
        panels.append(titled(grid(to_uint8(images).cpu()), heading(source)))
    save_png(side_by_side(panels), path, {"Runs": ", ".join(source.run.name for source in sources), "Seed": str(options.seed)})
    tests = {heading(source): test for source in sources if (test := readable_scores(source.run).get("test"))}
    if tests:
        Console(highlight=False).print(score_table(tests))
    print(f"wrote {path}")


def loadable(runs: Sequence[RunOptions]) -> list[Loaded]:
    """The runs with their models; those with a damaged file are named on stderr and left out.

    Raises:
        UserError: all have one, or one is no run, or no model that samples.
    """
    found = []
    for run in runs:
        try:
            found.append(run.load(SAMPLE))
        except DamagedFileError as error:
            if len(runs) == 1:
                raise
            print(f"genai: {error}; it is left out", file=sys.stderr)
    if not found:
        raise UserError("none of the runs can be read: name others")
    return found


def heading(source: Loaded) -> str:
    """The experiment, or the name of a zoo entry."""
    return source.run.name if source.run.is_exported else source.run.path.parent.name


def score_table(tests: Mapping[str, Any]) -> WrappedTable:
    """A row for each metric with the scores of each run, the floor in brackets."""
    rows = []
    for metric in all_metrics():
        scores, floors = ([metric.text(test[key]) for test in tests.values()] for key in ("scores", "floor"))
        if any(scores):
            cells = [f"{score} ({floor})" if score and floor else score for score, floor in zip(scores, floors, strict=True)]
            rows.append([metric.heading, *cells])
    rows.append(["images seen", *(f"{test['images_seen']:,}" for test in tests.values())])
    return WrappedTable(["test split", *tests], rows, caption="in brackets: the floor, real images against real images")
