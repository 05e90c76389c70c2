"""genai export-features: write a classifier as a feature network for scoring

Group: share
"""

import hashlib
import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from genai.cli.options.arguments import VerbParser
from genai.cli.options.run import RequiredCapability, RunOptions
from genai.data.base import ImageArray, ImageDataModule
from genai.errors import UserError
from genai.escaping import code, literal
from genai.files import write_atomically
from genai.images import to_float
from genai.metrics.features import OWN
from genai.metrics.features.trained import weights_path
from genai.models.capabilities import Classifies
from genai.models.classifier.classifier import Classifier, classification_loss
from genai.models.classifier.metrics import ClassifierMetrics
from genai.report.comparison import cost_of
from genai.runs import Run
from genai.runs.redaction import Redaction
from genai.runs.terms import TERMS

CLASSIFY = RequiredCapability(Classifies, "classify images", ("configs/digits/features.yaml",))
MAX_BYTES = 2_000_000
AUC_TOLERANCE = 1e-4

CARD = """\
# The feature network `{name}`

A {network} ({parameters:,} parameters) that classifies the {kind} of {data}. FID, KID, precision and recall are computed
on its penultimate layer ({feature_dim} features){logits_use}.

| | |
|---|---|
| trained with | {command} |
| seed | {seed} |
| images seen | {images_seen:,} (checkpoint `{checkpoint}`; `best` has the lowest validation loss) |
| wall-clock | {minutes:.0f} min for the whole run |
| weights | averaged, {dtype}, {size:,} bytes |
| sha256 | `{sha256}` |
| genai, torch | {genai}, {torch} |

## On the test split, {num_images:,} images not used for training or selection

| | {metric} |
|---|---|
{rows}

Limits: scores on these features compare models of {data} with each other, not with published scores on Inception
features.

{terms}
"""


def parser() -> VerbParser:
    """The options of `genai export-features`."""
    verb = VerbParser(
        "export-features",
        "RUN NAME [options]",
        "Write a classifier's run as a feature network for scoring, with a card that says how well it classifies.",
    )
    verb.add_argument("run", metavar="RUN", help="run directory or experiment (its newest run)")
    verb.add_argument("name", metavar="NAME", help="a name, kept in the user's cache, or the path of a .safetensors file")
    verb.add_argument("--force", action="store_true", help="replace a feature network of this name")
    RunOptions.add_model_options(verb)
    return verb


def target(name: str) -> Path:
    """The file that `genai.metrics.features.load_extractor(name)` reads."""
    if name.endswith(".safetensors") or (re.fullmatch(r"\w[\w-]*", name) and name not in OWN):
        return weights_path(name)
    raise UserError(
        f"{name} cannot be the name of a feature network: use letters, digits, - and _, none of {', '.join(OWN)}, or the path "
        "of a .safetensors file"
    )


@torch.no_grad()
def measure(model: Classifier, split: ImageArray, class_names: tuple[str, ...]) -> dict[str, float]:
    """Scores of the averaged network on a split: loss, accuracy or AUC, and those of each class or attribute."""
    scores = ClassifierMetrics(model.num_classes, model.attributes)
    for rows in torch.arange(len(split)).split(500):
        images, labels = split.batch(rows)
        logits = model.averaged(to_float(images))
        scores.update(logits, labels, classification_loss(logits, labels, model.attributes))
    return scores.compute(class_names)


def choose_dtype(model: Classifier, split: ImageArray, class_names: tuple[str, ...]) -> str:
    """Round the averaged weights to float16 if that changes the result on `split` by one image at most.

    Returns the name of the type they can be stored in.
    """
    state = {key: value.clone() for key, value in model.export_state().items()}
    before = measure(model, split, class_names)[metric(model)]
    model.import_state(half(state))
    change = abs(measure(model, split, class_names)[metric(model)] - before)
    if change <= (AUC_TOLERANCE if model.attributes else 1.5 / len(split)):
        return "float16"
    model.import_state(state)
    return "float32"


def half(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights in float16; counters as they are."""
    return {key: value.half() if value.is_floating_point() else value for key, value in state.items()}


def metric(model: Classifier) -> str:
    """The metric on the card."""
    return "auc" if model.attributes else "accuracy"


def network_spec(run: Run, model: Classifier) -> dict[str, Any]:
    """The class_path and init_args that rebuild the network."""
    network = run.config()["model"]["init_args"]["network"]
    shapes = {"image_shape": list(model.image_shape), "num_classes": model.num_classes}
    return {"class_path": network["class_path"], "init_args": {**network.get("init_args", {}), **shapes}}


def header(run: Run, model: Classifier, data: ImageDataModule, scores: dict[str, float]) -> dict[str, str]:
    """Metadata of the weights file: how to rebuild the network, and fields of the card."""
    record = run.record()
    return {
        "network": json.dumps(Redaction().value(network_spec(run, model))),
        "class_names": json.dumps(data.class_names),
        "task": "attributes" if model.attributes else "class",
        "data": data.name,
        "split": "test",
        metric(model): f"{scores[metric(model)]:.6f}",
        "command": Redaction().command(record["command"]),
        "seed": str(record["seed"]),
        "images_seen": str(model.images_seen),
    }


def serialised(state: dict[str, Tensor], about: dict[str, str]) -> bytes:
    """A safetensors file, the same bytes for the same content: the library writes its metadata in random order."""
    content = save({key: value.contiguous() for key, value in state.items()}, about)
    start = 8 + int.from_bytes(content[:8], "little")
    text = json.dumps(json.loads(content[8:start]), sort_keys=True).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[start:]


def card(name: str, run: Run, model: Classifier, about: dict[str, str], scores: dict[str, float], **facts: Any) -> str:
    """The card, in Markdown."""
    prefix = f"{metric(model)}/"
    named = {key.removeprefix(prefix): value for key, value in scores.items() if key.startswith(prefix)}
    rows = [f"| {literal(label)} | {value:.4f} |" for label, value in {"all": scores[metric(model)], **named}.items()]
    record = run.record()
    return CARD.format(
        name=name,
        network=type(model.network).__name__,
        parameters=sum(parameter.numel() for parameter in model.network.parameters()),
        feature_dim=model.network.feature_dim,
        kind="attributes" if model.attributes else "classes",
        logits_use="" if model.attributes else ", the Inception score and the class shares on its logits",
        metric="area under the ROC curve" if model.attributes else "accuracy",
        images_seen=model.images_seen,
        minutes=minutes(run),
        genai=literal(record["versions"]["genai"]),
        torch=literal(record["versions"]["torch"]),
        rows="\n".join(rows),
        terms=TERMS.get(about["data"], ""),
        command=code(about["command"], in_table=True),
        **{key: literal(about[key]) for key in ("data", "seed")},
        **facts,
    )


def minutes(run: Run) -> float:
    """Wall-clock time of the training; where the run did not record it, from its start to its last checkpoint."""
    if "seconds" in (cost := cost_of(run)):
        return float(cost["seconds"]) / 60
    started = datetime.fromisoformat(run.record()["started"]).timestamp()
    return (run.checkpoint("last").stat().st_mtime - started) / 60


def run(arguments: list[str]) -> None:
    """Score the classifier on the test split and write the weights and the card beside them."""
    options = parser().parse(arguments)
    path = target(options.name)
    source = RunOptions.from_namespace(options).load(CLASSIFY)
    run, model, data = source.run, source.model, source.data()
    if not options.force and (existing := next((p for p in (path, path.with_suffix(".md")) if p.exists()), None)):
        raise UserError(f"{existing} exists: choose another name, or replace it with --force")
    class_path = network_spec(run, model)["class_path"]
    if not class_path.startswith("genai.networks.") or not hasattr(model.network, "feature_dim"):
        raise UserError(f"{run.path} has the network {class_path}, which is not a feature network: train a genai ConvNet")
    split = data.split("test")
    dtype = choose_dtype(model, data.split("val"), data.class_names)
    scores = measure(model, split, data.class_names)
    about = header(run, model, data, scores)
    state = model.export_state()
    content = serialised(half(state) if dtype == "float16" else state, about)
    if len(content) > MAX_BYTES:
        raise UserError(f"the weights take {len(content):,} bytes, more than {MAX_BYTES:,}: train a smaller network")
    facts = {"checkpoint": options.checkpoint, "dtype": dtype, "size": len(content), "num_images": len(split)}
    text = card(path.stem, run, model, about, scores, sha256=hashlib.sha256(content).hexdigest(), **facts)
    write_atomically(path, content)
    write_atomically(path.with_suffix(".md"), text.encode())
    print(f"wrote {path} ({dtype}, {len(content):,} bytes) and {path.with_suffix('.md')}")
