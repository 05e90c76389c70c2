"""genai push: upload a tested run or a zoo entry to the Hugging Face hub

Group: share
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from genai.cli.options.arguments import VerbParser, add_trust_option, refuse
from genai.cli.options.run import RUN_HELP
from genai.runs import Run, find, load
from genai.runs.export import export_run
from genai.runs.hub import check_name, push
from genai.runs.terms import TERMS

RESEARCH_ONLY = ("utkface", "celeba")  # data whose terms forbid commercial use
NO_TERMS = "The terms of these data are those of their source."


def parser() -> VerbParser:
    """The options of `genai push`."""
    verb = VerbParser(
        "push",
        "RUN user/name [options]",
        "Upload a tested run or a zoo entry to the Hugging Face hub, with a model card. Others then name it hf://user/name. "
        "`hf auth login` stores the token.",
    )
    verb.add_argument("run", metavar="RUN", help=RUN_HELP)
    verb.add_argument("repository", metavar="user/name", help="repository on the hub; it is created if it is missing")
    text = "licence of the weights, as the hub names it (default: mit; cc-by-nc-4.0 for data of research use only)"
    verb.add_argument("--licence", metavar="NAME", help=text)
    verb.add_argument("--private", action="store_true", help="make a new repository private")
    verb.add_argument("--checkpoint", metavar="NAME", help="best, last or a file (default: best)")
    add_trust_option(verb)
    return verb


def run(arguments: list[str]) -> None:
    """Upload, and print how others use it."""
    options = parser().parse(arguments)
    check_name(options.repository)
    source = find(options.run)
    if source.is_exported:
        refuse(options, ("checkpoint",), f"on {source.path}, an entry with one set of weights")
    data = str(source.record()["data"])
    licence = options.licence or ("cc-by-nc-4.0" if data.startswith(RESEARCH_ONLY) else "mit")
    terms = TERMS.get(data, NO_TERMS).replace("\n", " ")
    with TemporaryDirectory() as temporary:
        entry = source
        if not source.is_exported:
            model = load(source, options.checkpoint or "best", trust=options.trust)
            entry = Run(Path(temporary) / options.repository)
            export_run(source, entry.path, model, "float32", unused)
        address = push(entry, options.repository, licence, terms, options.private)
    use = "--num 3 --tokens 300" if "vocab_size" in source.record() else "--out grid.png"
    print(f"pushed {source.name}: genai sample {address} {use}")


def unused(*arguments: Any) -> dict[str, Any]:
    """float32 weights are not rounded, so nothing is measured again."""
    raise AssertionError
