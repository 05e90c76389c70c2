"""--predictor: what reads attributes or classes from images."""

from genai.cli.options.arguments import VerbParser


def add_predictor_option(parser: VerbParser, what: str, default: str = "the feature network of the data") -> None:
    """Add --predictor; `what` says what it is for."""
    text = f"{what}; a feature network, the run of a classifier, or `pixels`, fitted to training images; default: {default}"
    parser.add_argument("--predictor", metavar="NAME", help=text)
