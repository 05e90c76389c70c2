"""genai export: write a tested run as a zoo entry with a model card

Group: share
"""

import copy
import shutil
from pathlib import Path
from typing import Any

import lightning as L
import torch
from safetensors.torch import save_file

from genai.cli.options.arguments import VerbParser, add_trust_option, command
from genai.errors import UserError
from genai.models.base import Model
from genai.runs import Run, find, load, write_json
from genai.runs.data import data_of
from genai.training.callbacks.quality import SampleQuality

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
COMPARED = ("fid", "kid", "is_mean", "precision", "recall", "label_agreement")
TOLERANCE = 0.01

CARD = """\
# {name}

{model} on {data}, trained by genai {version}. Every image it generates is synthetic.

| | |
|---|---|
| trained with | `{command}` |
| seed | {seed} |
| images seen | {images_seen:,} |
| weights | averaged, {dtype}, {size:.1f} MB |
| torch, lightning | {torch}, {lightning} |

## Scores

| metric | model | real against real |
|---|---|---|
{rows}

Protocol: {num_samples:,} samples (seed {sample_seed}) against {num_reference:,} images of the {split} split of {data},
feature network `{features}` (sha256 {sha}); scores are those of the weights in this folder.

## Use

    genai sample {name} --num 64 --out grid.png
    genai test {name}

Limits: the model reproduces the biases of {data}; the entry has no optimiser state, so training cannot be resumed from it.
"""


def parser() -> VerbParser:
    """The options of `genai export`."""
    verb = VerbParser(
        "export",
        "RUN zoo/NAME [options]",
        "Write a tested run as a zoo entry: config, averaged weights, test scores and a model card.",
    )
    verb.add_argument("run", metavar="RUN", help="run directory or experiment (its newest run)")
    verb.add_argument("target", metavar="zoo/NAME", help="the folder to write")
    verb.add_argument("--checkpoint", default="best", metavar="NAME", help="best, last or a file (default: best)")
    text = "auto: bfloat16 if no score changes by more than 1 %%, else float32 (default: auto)"
    verb.add_argument("--dtype", choices=["auto", *DTYPES], default="auto", help=text)
    verb.add_argument("--force", action="store_true", help="replace the folder")
    add_trust_option(verb)
    return verb


def rounded(model: Model) -> Model:
    """A copy of `model` whose exported weights went through bfloat16."""
    twin = copy.deepcopy(model)
    twin.import_state({name: narrow(value, torch.bfloat16) for name, value in model.export_state().items()})
    return twin


def narrow(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Floating-point values in `dtype`; counters stay as they are."""
    return value.to(dtype).contiguous() if value.is_floating_point() else value.contiguous()


def measure(model: Model, run: Run, protocol: dict[str, Any]) -> dict[str, Any]:
    """Score `model` under a protocol of `run`'s test."""
    callback = SampleQuality(protocol["features"], num_samples=protocol["num_samples"], seed=protocol["seed"])
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        callbacks=[callback],
        limit_test_batches=1,
        enable_progress_bar=False,
    )
    trainer.test(model, datamodule=data_of(run), verbose=False)
    assert callback.last is not None
    return callback.last.to_dict()


def same_scores(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether all scores agree within 1 %."""
    pairs = [(one[key], other[key]) for key in COMPARED if one.get(key) is not None]
    return all(abs(a - b) <= TOLERANCE * max(abs(a), abs(b)) for a, b in pairs)


def tested(run: Run, model: Model) -> dict[str, Any]:
    """The run's test scores, of this very checkpoint.

    Raises:
        UserError: the run was not tested, or with another checkpoint, or with options of the model that its config lacks.
    """
    test: dict[str, Any] | None = run.scores().get("test")
    if test is None or test["images_seen"] != model.images_seen:
        raise UserError(f"{run.path} has no test scores of this checkpoint: run `{command('test', run.path)}` first")
    if test.get("overrides"):
        overrides = " ".join(test["overrides"])
        raise UserError(
            f"{run.path} was tested with {overrides}, which is not in its config: run `{command('test', run.path)}` first"
        )
    return test


def choose_dtype(dtype: str, model: Model, run: Run, test: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The type to store weights in, and the test scores of the weights so stored."""
    if dtype == "float32":
        return dtype, test
    measured = test | measure(rounded(model), run, test["protocol"])
    if dtype == "bfloat16" or same_scores(test["scores"], measured["scores"]):
        return "bfloat16", measured
    print("bfloat16 would change the scores by more than 1 %: keeping float32")
    return "float32", test


def card(name: str, run: Run, record: dict[str, Any], test: dict[str, Any], dtype: str, size: int) -> str:
    """The model card, in Markdown."""
    protocol = test["protocol"]
    keys = [key for key, value in test["scores"].items() if isinstance(value, int | float)]
    rows = [f"| {key} | {test['scores'][key]:.4g} | {number(test['floor'].get(key))} |" for key in keys]
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
        num_samples=protocol["num_samples"],
        num_reference=protocol["num_reference"],
        sample_seed=protocol["seed"],
        split=protocol["split"],
        features=Path(protocol["features"]).name,
        sha=protocol["weights_sha256"][:16],
    )


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def run(arguments: list[str]) -> None:
    """Write the zoo entry."""
    options = parser().parse(arguments)
    source, target = find(options.run), Path(options.target)
    if target.exists() and not options.force:
        raise UserError(f"{target} exists: choose another name, or add --force")
    if source.is_exported:
        raise UserError(f"{source.path} is a zoo entry: copy the folder")
    model = load(source, options.checkpoint, trust=options.trust)
    dtype, test = choose_dtype(options.dtype, model, source, tested(source, model))
    record = source.record() | {"images_seen": model.images_seen, "dtype": dtype}
    folder = target.with_name(target.name + ".tmp")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    weights = {name: narrow(value, DTYPES[dtype]) for name, value in model.export_state().items()}
    save_file(weights, folder / "weights.safetensors", metadata={"software": "genai", "dtype": dtype})
    shutil.copy(source.path / "config.yaml", folder)
    write_json(folder / "run.json", record)
    write_json(folder / "metrics.json", {"test": test})
    size = (folder / "weights.safetensors").stat().st_size
    name = f"{target.parent.name}/{target.name}"
    (folder / "README.md").write_text(card(name, source, record, test, dtype, size))
    if target.exists():
        shutil.rmtree(target)
    folder.replace(target)
    print(f"wrote {target} ({dtype}, {size / 1e6:.1f} MB)")
