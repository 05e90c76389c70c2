"""A run as a zoo entry: config, averaged weights, scores and a model card, in one small folder."""

import copy
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file

from genai.errors import UserError
from genai.metrics.registry import all_metrics, text_metrics
from genai.metrics.text import TextProtocol
from genai.models.base import Model
from genai.runs import Run, write_json

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
COMPARED = ("fid", "kid", "inception_score", "precision", "recall", "label_agreement", "bits_per_byte")
TOLERANCE = 0.01
FILES = ("README.md", "config.yaml", "metrics.json", "run.json", "weights.safetensors")  # of a zoo entry
Rescore = Callable[[Model, dict[str, Any]], dict[str, Any]]  # (model, protocol of a test) -> its test entry of metrics.json

CARD = """\
# {name}

{model} on {data}, trained with genai {version}. All its samples are synthetic {what}.

| | |
|---|---|
| trained with | `{command}` |
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
    genai test {name}

Limits: the model reproduces the biases of {data}; the entry has no optimiser state, so training cannot be resumed from it.
"""


class Exported(NamedTuple):
    """A zoo entry that was written: its folder, the type of its weights and their size in bytes."""

    path: Path
    dtype: str
    size: int


def export_run(source: Run, target: Path, model: Model, dtype: str, rescore: Rescore, force: bool = False) -> Exported:
    """Write a tested run as a zoo entry.

    Args:
        source: the run.
        target: the folder to make.
        model: that of the checkpoint to export, loaded.
        dtype: float32, bfloat16, or auto: bfloat16 if no score changes by more than 1 %.
        rescore: measures the test scores of a model whose weights were rounded.
        force: replace `target` if it is a zoo entry.

    Raises:
        UserError: `target` exists, `source` is a zoo entry, or it has no test scores of this checkpoint as its config has it.
    """
    check_target(target, force)
    if source.is_exported:
        raise UserError(f"{source.path} is a zoo entry already: copy the folder")
    dtype, test = choose_dtype(dtype, model, scores_of_test(source, model), rescore)
    record = source.record() | {"images_seen": model.images_seen, "dtype": dtype}
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as temporary:
        folder = Path(temporary) / target.name
        folder.mkdir()
        size = write_entry(folder, source, target, model, dtype, record, test)
        check_target(target, force)
        if target.exists():
            target.rename(Path(temporary) / "before")
        folder.rename(target)
    return Exported(target, dtype, size)


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
        raise UserError(f"{target} is no zoo entry, so --force does not replace it: choose another name")
    foreign = sorted(path.name for path in target.iterdir() if path.name not in FILES)
    if foreign:
        raise UserError(f"{target} has other files too ({', '.join(foreign[:3])}): move them away, or choose another name")


def write_entry(
    folder: Path, source: Run, target: Path, model: Model, dtype: str, record: dict[str, Any], test: dict[str, Any]
) -> int:
    """Write the files of a zoo entry into `folder`; returns the size of the weights in bytes."""
    weights = {name: narrow(value, DTYPES[dtype]) for name, value in model.export_state().items()}
    save_file(weights, folder / "weights.safetensors", metadata={"software": "genai", "dtype": dtype})
    (folder / "config.yaml").write_bytes(source.config_bytes())
    write_json(folder / "run.json", record)
    write_json(folder / "metrics.json", {"test": test})
    size = (folder / "weights.safetensors").stat().st_size
    (folder / "README.md").write_text(card(f"{target.parent.name}/{target.name}", record, test, dtype, size))
    return size


def scores_of_test(run: Run, model: Model) -> dict[str, Any]:
    """The run's test scores, of the checkpoint that `model` was loaded from.

    Raises:
        UserError: the run was not tested, or with another checkpoint, or with options of the model that its config lacks.
    """
    test: dict[str, Any] | None = run.scores().get("test")
    if test is None or test["images_seen"] != model.images_seen:
        raise UserError(f"{run.path} has no test scores of this checkpoint: run `genai test {run.path}` first")
    if test.get("overrides"):
        overrides = " ".join(test["overrides"])
        raise UserError(
            f"{run.path} was tested with {overrides}, which its config lacks: run `genai test {run.path}` without it first"
        )
    return test


def choose_dtype(dtype: str, model: Model, test: dict[str, Any], rescore: Rescore) -> tuple[str, dict[str, Any]]:
    """The type to store weights in, and the test scores of the weights stored like that."""
    if dtype == "float32":
        return dtype, test
    measured = test | rescore(rounded(model), test["protocol"])
    if dtype == "bfloat16" or same_scores(test["scores"], measured["scores"]):
        return "bfloat16", measured
    print("bfloat16 would change the scores by more than 1 %: keeping float32")
    return "float32", test


def rounded(model: Model) -> Model:
    """A copy of `model` whose exported weights were rounded to bfloat16."""
    twin = copy.deepcopy(model)
    twin.import_state({name: narrow(value, torch.bfloat16) for name, value in model.export_state().items()})
    return twin


def narrow(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A copy with its own memory, also of tied tensors: floating-point values in `dtype`, counters unchanged."""
    return value.to(dtype if value.is_floating_point() else value.dtype, copy=True).contiguous()


def same_scores(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether all scores agree within 1 %."""
    pairs = [(one[name], other[name]) for name in COMPARED if name in one]
    return all(abs(a - b) <= TOLERANCE * max(abs(a), abs(b)) for a, b in pairs)


def card(name: str, record: dict[str, Any], test: dict[str, Any], dtype: str, size: int) -> str:
    """The model card, in Markdown."""
    protocol, is_text = test["protocol"], "tokenizer" in test["protocol"]
    metrics = [metric for metric in (text_metrics() if is_text else all_metrics()) if metric.name in test["scores"]]
    cells = [(metric.heading, *(metric.text(test[part], with_std=True) for part in ("scores", "floor"))) for metric in metrics]
    rows = [f"| {' | '.join(row)} |" for row in cells]
    return CARD.format(
        name=name,
        model=record["model"],
        data=record["data"],
        version=record["versions"]["genai"],
        torch=record["versions"]["torch"],
        lightning=record["versions"]["lightning"],
        command="`, then `".join([record["command"], *record.get("resumed_with", [])]),
        seed=record["seed"],
        images_seen=record["images_seen"],
        dtype=dtype,
        size=size / 1e6,
        rows="\n".join(rows),
        what="texts" if is_text else "images",
        unit="tokens" if is_text else "images",
        floor="real text" if is_text else "real against real",
        use=f"genai sample {name} --num 3 --tokens 300" if is_text else f"genai sample {name} --num 64 --out grid.png",
        protocol=TextProtocol(**protocol).describe() if is_text else describe_protocol(protocol, record["data"]),
    )


def describe_protocol(protocol: dict[str, Any], data: str) -> str:
    """The protocol of scores of images, in two lines."""
    return (
        f"{protocol['num_samples']:,} samples (seed {protocol['seed']}) against {protocol['num_reference']:,} images of the "
        f"{protocol['split']} split of {data},\nfeature network `{Path(protocol['features']).name}` "
        f"(sha256 {protocol['weights_sha256'][:16]})"
    )
