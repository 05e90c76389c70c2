"""genai score: score pictures that any program made against a dataset

Group: train and score
"""

import json
from pathlib import Path

import torch
from rich.console import Console
from rich.text import Text

from genai.cli.options.arguments import VerbParser
from genai.metrics.two_sample import classifier_accuracy
from genai.report.evaluate import data_named, evaluate
from genai.report.pictures import read_pictures


def parser() -> VerbParser:
    """The options of `genai score`."""
    verb = VerbParser(
        "score",
        "PATH --against DATASET [options]",
        "Compute every metric of pictures against a dataset, beside its floor (real images against real images). The pictures "
        "have the dataset's size; `genai sample --out folder/` or samples.npz writes such ones, and so does any other program.",
    )
    verb.add_argument("path", metavar="PATH", type=Path, help="folder, .zip or .tar of pictures, or an .npz with `images`")
    verb.add_argument("--against", default="mnist", metavar="DATASET", help="digits, mnist, avatars, ... (default: mnist)")
    verb.add_argument("--split", default="test", choices=("val", "test"), help="of the dataset (default: test)")
    text = "feature network: a name or a path (default: the one shipped for the dataset)"
    verb.add_argument("--features", default="auto", metavar="NAME", help=text)
    verb.add_argument("--device", default="cpu", help="cpu, cuda, ... (default: cpu)")
    text = "also train three small networks to tell the pictures from real ones: held-out accuracy, 0.5 cannot (a minute)"
    verb.add_argument("--two-sample", action="store_true", help=text)
    verb.add_argument("--json", action="store_true", help="print scores, floor and protocol as JSON")
    return verb


def run(arguments: list[str]) -> None:
    """Print the scores."""
    options = parser().parse(arguments)
    data = data_named(options.against)
    images, labels = read_pictures(options.path, data.image_shape)
    result = evaluate(images, data, split=options.split, features=options.features, labels=labels, device=options.device)
    content = result.to_dict()
    if options.two_sample:
        real, train = (torch.from_numpy(data.split(name).images[: len(images)].copy()) for name in (options.split, "train"))
        content["two_sample"] = {
            "samples": classifier_accuracy(images, real)._asdict(),
            "floor": classifier_accuracy(train, real)._asdict(),
        }
    if options.json:
        print(json.dumps(content, indent=2))
        return
    console = Console(highlight=False)
    console.print(result)
    if options.two_sample:
        console.print(Text(describe(content["two_sample"])))


def describe(accuracies: dict[str, dict[str, float]]) -> str:
    """One line of the two-sample test."""
    texts = {name: f"{found['value']:.3f} ± {found['std']:.3f}" for name, found in accuracies.items()}
    return (
        f"two-sample accuracy (3 seeds): {texts['samples']}, real against real {texts['floor']}; 0.5: a network cannot "
        "tell the pictures from real ones"
    )
