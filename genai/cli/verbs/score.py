"""genai score: score pictures that any program made against a dataset

Group: train and score
"""

from pathlib import Path

from rich.console import Console

from genai.cli.options.arguments import VerbParser
from genai.report.evaluate import data_named, evaluate
from genai.report.pictures import read_pictures
from genai.runs.files import as_json_text


def parser() -> VerbParser:
    """The options of `genai score`."""
    verb = VerbParser(
        "score",
        "PATH --against DATASET [options]",
        "Compute every metric of pictures against a dataset, beside its floor (real images against real images). The pictures "
        "must have the dataset's size. They can come from `genai sample --out folder/` or from any other program.",
    )
    verb.add_argument("path", metavar="PATH", type=Path, help="folder, .zip or .tar of pictures, or an .npz with `images`")
    verb.add_argument("--against", default="mnist", metavar="DATASET", help="digits, mnist, avatars, ... (default: mnist)")
    verb.add_argument("--split", default="test", choices=("val", "test"), help="of the dataset (default: test)")
    text = "feature network: a name or a path (default: the one shipped for the dataset)"
    verb.add_argument("--features", default="auto", metavar="NAME", help=text)
    verb.add_argument("--device", default="cpu", help="cpu, cuda, ... (default: cpu)")
    text = "also train three small classifiers on pictures against real images (a minute): 0.5 is indistinguishable"
    verb.add_argument("--two-sample", action="store_true", help=text)
    verb.add_argument("--json", action="store_true", help="print scores, floor and protocol as JSON")
    return verb


def run(arguments: list[str]) -> None:
    """Print the scores."""
    options = parser().parse(arguments)
    data = data_named(options.against)
    images, labels = read_pictures(options.path, data.image_shape)
    result = evaluate(
        images,
        data,
        split=options.split,
        features=options.features,
        labels=labels,
        device=options.device,
        two_sample=options.two_sample,
    )
    if options.json:
        print(as_json_text(result.to_dict()))
        return
    Console(highlight=False).print(result)
