"""genai report: write one HTML page about runs, readable offline

Group: inspect
"""

import sys
from dataclasses import replace

from genai.cli.options.arguments import VerbParser, positive
from genai.cli.options.output import OutputOptions, default_path
from genai.cli.options.run import Loaded, RunOptions, add_seed_option
from genai.cli.verbs.sample import SAMPLE_IMAGES
from genai.data.base import ImageDataModule
from genai.errors import UserError
from genai.report.comparison import short_name
from genai.report.html.content import Nearest, RunContent, nearest_training_images, read_run
from genai.report.html.page import write_report
from genai.runs.data import data_of
from genai.runs.redaction import Redaction


def parser() -> VerbParser:
    """The options of `genai report`."""
    verb = VerbParser(
        "report",
        "RUN... [options]",
        "Write one HTML file about runs: samples from the same seeds, scores with floors, the training as a slider over "
        "epochs, curves, class shares, nearest training images, times and differing settings.",
    )
    verb.add_argument("runs", metavar="RUN", nargs="+", help="runs, experiments or zoo entries")
    RunOptions.add_model_options(verb)
    verb.add_argument("--num", type=positive, default=36, metavar="N", help="samples of each run (default: 36)")
    add_seed_option(verb)
    OutputOptions.add_to(verb, "the HTML file to write")
    return verb


def run(arguments: list[str]) -> None:
    """Read the runs, sample, and write the file."""
    options = parser().parse(arguments)
    chosen = [replace(RunOptions.from_namespace(options), run=name) for name in options.runs]
    path = OutputOptions.from_namespace(options).path(default_path(chosen[0].find(), "report.html"))
    if path.suffix != ".html" or path.is_dir():
        raise UserError(f"--out {path} should be the name of a file that ends in .html")
    sources = [run.load(SAMPLE_IMAGES) for run in chosen]
    names = headings(sources)
    runs = [
        read_run(source.run, name, source.model, options.seed, options.num) for source, name in zip(sources, names, strict=True)
    ]
    for content in runs:
        if not content.evaluation:
            print(f"{content.run.path} has no scores: `genai test {content.run.path}` measures them", file=sys.stderr)
    neighbours = {run.name: neighbours_of(run, source) for run, source in zip(runs, sources, strict=True)}
    size = write_report(runs, neighbours, path, options.seed)
    print(f"wrote {path} ({size / 1e6:.1f} MB)")


def headings(sources: list[Loaded]) -> list[str]:
    """A different name for each run: its experiment or zoo entry if that is enough, else also the folder of the run."""
    short = [short_name(source.run) for source in sources]
    names = [name if short.count(name) == 1 else source.run.name for name, source in zip(short, sources, strict=True)]
    if len(set(names)) < len(names):
        raise UserError("a run is named twice: name each run once")
    return names


def neighbours_of(content: RunContent, source: Loaded) -> Nearest | str:
    """The nearest training images; one line, which is also printed, if the run's data cannot be read here."""
    try:
        data = data_of(source.run, source.trust)
        if not isinstance(data, ImageDataModule):
            raise UserError(f"{data.name} has no images: name a run of a model of images")
        return nearest_training_images(content, data)
    except UserError as error:
        line = f"The data of {content.name} cannot be read here: {error}"
        print(line, file=sys.stderr)
        return Redaction().text(line)
