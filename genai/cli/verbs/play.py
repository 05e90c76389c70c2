"""genai play: try trained models in a browser on this machine

Group: sample and edit
"""

from dataclasses import replace

from genai.cli.options.arguments import VerbParser, positive
from genai.cli.options.run import SAMPLE, RunOptions
from genai.errors import UserError
from genai.models.base import ImageModel
from genai.report.comparison import distinct_names
from genai.report.play.actions import PlayableRun
from genai.report.play.text import PlayableText

RUNS = ("zoo/mnist-gan", "zoo/mnist-diffusion")
MAX_PORT = 65535


def parser() -> VerbParser:
    """The options of `genai play`."""
    verb = VerbParser(
        "play",
        "[RUN...] [options]",
        "Serve a page on this machine to sample from models, explore their latent space, draw digits that they reconstruct or "
        "complete, and write text. The controls depend on the model; several runs are shown side by side with the same seeds.",
    )
    text = f"runs, experiments or zoo entries; default: {' '.join(RUNS)}"
    verb.add_argument("runs", metavar="RUN", nargs="*", default=list(RUNS), help=text)
    RunOptions.add_model_options(verb)
    verb.add_argument("--port", type=positive, default=7860, metavar="N", help="on 127.0.0.1 (default: 7860)")
    return verb


def run(arguments: list[str]) -> None:
    """Load the runs and serve the page until it is interrupted."""
    options = parser().parse(arguments)
    if options.port > MAX_PORT:
        raise UserError(f"--port {options.port} is out of range: use 1 to {MAX_PORT}")
    from genai.report.play import page

    page.check_port(options.port)
    sources = [replace(RunOptions.from_namespace(options), run=name).load(SAMPLE) for name in options.runs]
    names = distinct_names([source.run for source in sources])
    runs: list[PlayableRun | PlayableText] = [
        (PlayableRun if isinstance(source.model, ImageModel) else PlayableText)(source.run, name, source.model)
        for source, name in zip(sources, names, strict=True)
    ]
    page.serve(page.build(runs), options.port)
