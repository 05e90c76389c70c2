"""genai report: write one HTML page about runs, readable offline

Group: inspect
"""

import sys
from dataclasses import replace
from importlib import import_module

from genai.cli.options.arguments import VerbParser, command, positive
from genai.cli.options.output import OutputOptions, default_path
from genai.cli.options.run import SAMPLE, LoadedRun, RunOptions, add_seed_option
from genai.data.base import ImageDataModule
from genai.errors import UserError
from genai.models.base import ImageModel
from genai.report.comparison import distinct_names, note_other_checkpoint
from genai.report.html.content import Nearest, RunContent, nearest_training_images, read_run
from genai.report.html.page import write_report
from genai.runs.redaction import Redaction

NUM_IMAGES, NUM_TEXTS = 36, 3


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
    verb.add_argument("--num", type=positive, metavar="N", help="samples of each run (default: 36 images, 3 texts)")
    add_seed_option(verb)
    verb.add_argument("--wandb", action="store_true", help="also show the file as `report` in the W&B run of each RUN")
    OutputOptions.add_to(verb, "the HTML file to write")
    return verb


def run(arguments: list[str]) -> None:
    """Read the runs, sample, and write the file."""
    options = parser().parse(arguments)
    chosen = [replace(RunOptions.from_namespace(options), run=name) for name in options.runs]
    path = OutputOptions.from_namespace(options).path(default_path(chosen[0].find(), "report.html"))
    if path.suffix != ".html" or path.is_dir():
        raise UserError(f"--out {path} should be the name of a file that ends in .html")
    found = [run.find() for run in chosen]
    if not any({"test", "val"} & run.scores().keys() for run in found):
        raise UserError(f"{found[0].path} has no scores: `{command('test', found[0].path)}` measures them")
    sources = [run.load(SAMPLE) for run in chosen]
    untracked = [str(source.run.path) for source in sources if not (source.run.path / "logs/wandb").is_dir()]
    if options.wandb and untracked:
        raise UserError(f"{untracked[0]} has no W&B run: leave --wandb out, or name runs of `genai fit --tracker wandb`")
    names = distinct_names([source.run for source in sources])
    kinds = {isinstance(source.model, ImageModel): name for source, name in zip(sources, names, strict=True)}
    if len(kinds) > 1:
        raise UserError(f"{kinds[True]} generates images and {kinds[False]} text: write a report of each")
    num = options.num or (NUM_IMAGES if True in kinds else NUM_TEXTS)
    runs = [read_run(source.run, name, source.model, options.seed, num) for source, name in zip(sources, names, strict=True)]
    for content in runs:
        note_other_checkpoint(content.run, content.evaluation, content.images_seen)
        if not content.evaluation:
            print(f"{content.run.path} has no scores: `genai test {content.run.path}` measures them", file=sys.stderr)
    neighbours = {run.name: neighbours_of(run, source) for run, source in zip(runs, sources, strict=True) if len(run.images)}
    size = write_report(runs, neighbours, path, options.seed)
    print(f"wrote {path} ({size / 1e6:.1f} MB)")
    for source in sources if options.wandb else []:
        run = source.run
        import_module("genai.training.loggers").log_report(run.path, run.record()["tracker_id"], run.config(), path)


def neighbours_of(content: RunContent, source: LoadedRun) -> Nearest | str:
    """The nearest training images; one line, which is also printed, if the run's data cannot be read here."""
    try:
        data = source.data()
        if not isinstance(data, ImageDataModule):
            raise UserError(f"{data.name} has no images: name a run of a model of images")
        return nearest_training_images(content, data)
    except UserError as error:
        line = f"The data of {content.name} cannot be read here: {error}"
        print(line, file=sys.stderr)
        return Redaction().text(line)
