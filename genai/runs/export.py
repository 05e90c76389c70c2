"""A run as a zoo entry: config, averaged weights, scores and a model card, in one small folder."""

import copy
import hashlib
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
import yaml
from safetensors.torch import save

from genai.errors import DamagedFileError, UserError
from genai.escaping import code, literal, literals
from genai.files import make_folder, os_errors_as_write_errors, write_atomically
from genai.metrics.registry import all_metrics, text_metrics
from genai.metrics.text import TextProtocol
from genai.models.base import Model
from genai.runs import Run, write_json
from genai.runs.places import READS_PICTURES_ALONE
from genai.runs.redaction import Redaction
from genai.runs.yaml_files import parse_yaml

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
COMPARED = ("fid", "kid", "inception_score", "precision", "recall", "label_agreement", "bits_per_byte")
TOLERANCE = 0.01
FILES = (  # of a zoo entry
    "README.md",
    "config.yaml",
    "directions.safetensors",
    "metrics.json",
    "model.onnx",
    "run.json",
    "weights.safetensors",
)
DIRECTIONS = "directions.safetensors"  # of `genai directions`
Rescore = Callable[[Model, dict[str, Any]], dict[str, Any]]  # (model, test entry of metrics.json) -> the same of this model

CARD = """\
# {name}

{model} on {data}, trained with genai {version}. All its samples are synthetic {what}.

| | |
|---|---|
| trained with | {command} |
| seed | {seed} |
| {unit} seen | {images_seen:,} |
| weights | averaged, {dtype}, {size:.1f} MB |
| torch, lightning | {torch}, {lightning} |

## Scores

| metric | model | {floor} |
|---|---|---|
{rows}

Protocol: {protocol}; scores are those of the weights in this folder.

## Use

    {use}
    genai test {entry}

Limits: the model reproduces the biases of {data}; the entry has no optimiser state, so training cannot be resumed from it.
"""


class Exported(NamedTuple):
    """A zoo entry that was written: its folder, the type of its weights, their size in bytes, and what was left out."""

    path: Path
    dtype: str
    size: int
    removed: str


def export_run(source: Run, target: Path, model: Model, dtype: str, rescore: Rescore, force: bool = False) -> Exported:
    """Write a tested run as a zoo entry, without secrets, paths of this machine and centroids of clusters.

    Args:
        source: the run.
        target: the folder to make.
        model: that of the checkpoint to export, loaded.
        dtype: float32, bfloat16, or auto: bfloat16 if no score changes by more than 1 %.
        rescore: measures the test scores of a model whose weights were rounded.
        force: replace `target` if it is a zoo entry.

    Raises:
        UserError: `target` exists, `source` is a zoo entry, or it has no test scores of this checkpoint as its config has it.
        WriteError: the system refuses to write; what was at `target` is as it was.
    """
    check_target(target, force)
    if source.is_exported:
        raise UserError(f"{source.path} is a zoo entry already: copy the folder")
    dtype, test = choose_dtype(dtype, model, scores_of_test(source, model), rescore)
    redaction = Redaction()
    record = shared_record(source.record(), redaction) | {"images_seen": model.images_seen, "dtype": dtype}
    test, config = redaction.value(test), shared_config(source, redaction)
    make_folder(target.parent)
    with os_errors_as_write_errors(target), TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as temporary:
        folder = Path(temporary) / target.name
        folder.mkdir()
        with complete(source.path):
            size = write_entry(folder, config, target, model, dtype, record, test)
        if (source.path / DIRECTIONS).is_file():
            write_atomically(folder / DIRECTIONS, read_shared(source.path / DIRECTIONS))
        check_target(target, force)
        before = Path(temporary) / "before"
        if target.exists():
            target.rename(before)
        try:
            folder.rename(target)
        except OSError:
            if before.exists():
                before.rename(target)
            raise
    centroids = ["k-means centroids"] if any(name.endswith("centroids") for name, _ in model.named_buffers()) else []
    return Exported(target, dtype, size, ", ".join([*centroids, *filter(None, [redaction.summary()])]))


def shared_record(record: dict[str, Any], redaction: Redaction) -> dict[str, Any]:
    """A run's record without secrets, paths and the signature, which says something to its own user alone."""
    commands: dict[str, Any] = {name: record[name] for name in ("command", "resumed_with") if name in record}
    others = {name: value for name, value in record.items() if name not in (*commands, "signature")}
    for name, command in commands.items():
        lines = [redaction.command(line) for line in ([command] if isinstance(command, str) else command)]
        commands[name] = lines[0] if isinstance(command, str) else lines
    return {name: commands.get(name) or redaction.value(others[name], name) for name in record if name != "signature"}


def shared_config(source: Run, redaction: Redaction) -> bytes:
    """config.yaml without secrets and paths; without the data folder, where another one can be given."""
    content = source.config_bytes()
    config = parse_yaml(content.decode(errors="replace"), source.path / "config.yaml")
    data = config["data"]
    root = (data.get("init_args") or {}).get("root")
    shared = redaction.value(config)
    if root and data.get("class_path") != READS_PICTURES_ALONE and shared["data"]["init_args"]["root"] != root:
        shared["data"]["init_args"]["root"] = None
    if (shared.get("trainer") or {}).get("default_root_dir"):
        shared["trainer"]["default_root_dir"] = None  # a folder of this machine
    return content if shared == config else yaml.safe_dump(shared, sort_keys=False, allow_unicode=True).encode()


def read_shared(path: Path) -> bytes:
    """A file of a run that is to be shared; UserError for a link, which could lead to a file that is private."""
    if path.is_symlink():
        raise UserError(f"{path} is a link: put the file itself there, or remove it")
    return path.read_bytes()


def check_target(target: Path, force: bool) -> None:
    """Raise UserError where `target` exists, unless it is a zoo entry, has no other files, and may be replaced.

    Args:
        target: the folder to make.
        force: whether it may be replaced.
    """
    if not os.path.lexists(target):
        return
    if not force:
        raise UserError(f"{target} exists: choose another name, or add --force")
    if target.is_symlink() or not (target / "run.json").is_file() or not (target / "weights.safetensors").is_file():
        raise UserError(f"{target} is not a zoo entry, so --force does not replace it: choose another name")
    foreign = sorted(path.name for path in target.iterdir() if path.name not in FILES)
    if foreign:
        raise UserError(f"{target} has other files too ({', '.join(foreign[:3])}): move them away, or choose another name")


def write_entry(
    folder: Path, config: bytes, target: Path, model: Model, dtype: str, record: dict[str, Any], test: dict[str, Any]
) -> int:
    """Write the files of a zoo entry into `folder`; returns the size of the weights in bytes."""
    tensors = {name: with_dtype(value, DTYPES[dtype]) for name, value in model.export_state().items()}
    weights = save(tensors, metadata={"software": "genai", "dtype": dtype})
    write_atomically(folder / "weights.safetensors", weights)
    write_atomically(folder / "config.yaml", config)
    write_json(folder / "run.json", record | {"weights_sha256": hashlib.sha256(weights).hexdigest()})
    write_json(folder / "metrics.json", {"test": test})
    write_atomically(folder / "README.md", card(Run(target).name, record, test, dtype, len(weights)))
    return len(weights)


def scores_of_test(run: Run, model: Model) -> dict[str, Any]:
    """The run's test scores, of the checkpoint that `model` was loaded from.

    Raises:
        UserError: the run was not tested, or with another checkpoint, or with options of the model that its config lacks.
    """
    test: dict[str, Any] | None = run.scores().get("test")
    if test is None or test["images_seen"] != model.images_seen:
        raise UserError(
            f"{run.path} has no test scores of this checkpoint: run `genai test {shlex.quote(str(run.path))}` first, "
            "with the same --checkpoint"
        )
    if test.get("overrides"):
        overrides = " ".join(test["overrides"])
        raise UserError(
            f"{run.path} was tested with {overrides}, which its config lacks: "
            f"run `genai test {shlex.quote(str(run.path))}` without it first"
        )
    return test


def choose_dtype(dtype: str, model: Model, test: dict[str, Any], rescore: Rescore) -> tuple[str, dict[str, Any]]:
    """The type to store weights in, and the test scores of the weights stored like that.

    Raises:
        UserError: the weights would be chosen by scores of another protocol, because the data or the feature network differ.
    """
    if dtype == "float32":
        return dtype, test
    measured = test | rescore(rounded(model), test)
    if dtype == "auto" and measured["protocol"] != test["protocol"]:
        differing = ", ".join(name for name, value in test["protocol"].items() if measured["protocol"].get(name) != value)
        raise UserError(
            f"the test cannot be repeated for bfloat16, its protocol would differ ({differing}): run `genai test` again first, "
            "or add --dtype float32"
        )
    if dtype == "bfloat16" or same_scores(test["scores"], measured["scores"]):
        return "bfloat16", measured
    print("bfloat16 would change the scores by more than 1 %: keeping float32")
    return "float32", test


def rounded(model: Model) -> Model:
    """A copy of `model` whose exported weights were rounded to bfloat16."""
    twin = copy.deepcopy(model)
    twin.import_state({name: with_dtype(value, torch.bfloat16) for name, value in model.export_state().items()})
    return twin


def with_dtype(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A copy with its own memory, also of tied tensors: floating-point values in `dtype`, counters unchanged."""
    return value.to(dtype if value.is_floating_point() else value.dtype, copy=True).contiguous()


def same_scores(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether all scores agree within 1 %."""
    pairs = [(one[name], other[name]) for name in COMPARED if name in one]
    return all(abs(a - b) <= TOLERANCE * max(abs(a), abs(b)) for a, b in pairs)


@contextmanager
def complete(path: Path) -> Iterator[None]:
    """Raise DamagedFileError where the files of the run at `path` lack something that its card has."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFileError(
            f"{path} has no complete run.json and metrics.json for a card ({error!r}): score it again"
        ) from None


def card(name: str, record: dict[str, Any], test: dict[str, Any], dtype: str, size: int) -> str:
    """The model card, in Markdown."""
    protocol, is_text, entry = test["protocol"], "tokenizer" in test["protocol"], shlex.quote(name)
    metrics = [metric for metric in (text_metrics() if is_text else all_metrics()) if metric.name in test["scores"]]
    cells = [(metric.heading, *(metric.text(test[part], with_std=True) for part in ("scores", "floor"))) for metric in metrics]
    rows = [f"| {' | '.join(row)} |" for row in cells]
    return CARD.format(
        name=literal(name),
        entry=entry,
        model=literal(record["model"]),
        data=literal(record["data"]),
        version=literal(record["versions"]["genai"]),
        torch=literal(record["versions"]["torch"]),
        lightning=literal(record["versions"]["lightning"]),
        command=", then ".join(code(line, in_table=True) for line in [record["command"], *record.get("resumed_with", [])]),
        seed=record["seed"],
        images_seen=record["images_seen"],
        dtype=dtype,
        size=size / 1e6,
        rows="\n".join(rows),
        what="texts" if is_text else "images",
        unit="tokens" if is_text else "images",
        floor="real text" if is_text else "real against real",
        use=f"genai sample {entry} {'--num 3 --tokens 300' if is_text else '--num 64 --out grid.png'}",
        protocol=TextProtocol(**literals(protocol)).describe() if is_text else describe_protocol(protocol, record["data"]),
    )


def describe_protocol(protocol: dict[str, Any], data: str) -> str:
    """The protocol of scores of images, in two lines of Markdown."""
    return (
        f"{protocol['num_samples']:,} samples (seed {protocol['seed']}) against {protocol['num_reference']:,} images of the "
        f"{literal(protocol['split'])} split of {literal(data)},\nfeature network {code(Path(protocol['features']).name)} "
        f"(sha256 {literal(protocol['weights_sha256'][:16])})"
    )
