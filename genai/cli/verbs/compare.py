"""genai compare: show samples of several runs and real images side by side

Group: inspect
"""

from dataclasses import replace

from genai.cli.options.arguments import VerbParser, positive
from genai.cli.options.labels import LabelOptions, sample_condition
from genai.cli.options.output import OutputOptions
from genai.cli.options.run import Loaded, RunOptions, add_seed_option
from genai.cli.verbs.sample import SAMPLE
from genai.errors import UserError
from genai.images import grid, save_png, side_by_side, titled, to_uint8
from genai.models.seeds import image_seeds


def parser() -> VerbParser:
    """The options of `genai compare`."""
    verb = VerbParser(
        "compare",
        "RUN... [options]",
        "Show real test images and samples of several runs of one dataset in one picture: a panel for each, with the run's FID "
        "where it has been tested.",
    )
    verb.add_argument("runs", metavar="RUN", nargs="+", help="runs of one dataset")
    RunOptions.add_model_options(verb)
    verb.add_argument("--num", type=positive, default=36, metavar="N", help="images in each panel (default: 36)")
    add_seed_option(verb)
    OutputOptions.add_to(verb)
    return verb


def run(arguments: list[str]) -> None:
    """Write the picture."""
    options = parser().parse(arguments)
    runs = [replace(RunOptions.from_namespace(options), run=name) for name in options.runs]
    path = OutputOptions.from_namespace(options).png(runs[0].find(), "compare")
    sources = [run.load(SAMPLE) for run in runs]
    names = {source.run.record()["data"] for source in sources}
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
    print(f"wrote {path}")


def heading(source: Loaded) -> str:
    """The experiment, and the FID on the test split beside its floor where the run has been tested."""
    name = source.run.name if source.run.is_exported else source.run.path.parent.name
    test = source.run.scores().get("test")
    if test is None:
        return name
    return f"{name}: FID {test['scores']['fid']:.3g} (floor {test['floor']['fid']:.2g})"
