"""Checkpoints with crafted content: whatever a part of one holds, `fit --resume` and `sample` end in one line."""

import copy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import genai
from genai.cli import main
from genai.errors import UserError
from genai.runs import find
from genai.runs.loading import checked
from genai.training import checks
from genai.training.checks import check_optimizers
from tests.families import family

VALUES: dict[str, Any] = {
    "None": None,
    "list": [],
    "dict": {},
    "text": "\x1b]0;x\x07",
    "negative": -7,
    "huge": 10**30,
    "infinite": float("inf"),
    "nested": [[{"a": [1]}]],
    "tensor": torch.zeros(3, 3),
    "stretched": torch.zeros(1).expand(10**12),
    "complex": torch.zeros(2, dtype=torch.complex64),
    "sparse": torch.zeros(3, 3).to_sparse(),
}
STOPPING = ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val/loss"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of one epoch with a schedule of the learning rate and two callbacks, which is from elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("work"))
        short = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "1"]
        options = ["--evaluation.every_n_epochs", "1", "--evaluation.num_samples", "50", "--experiment", "vae", *STOPPING]
        assert main(["fit", *family("vae"), *short, *options, "--tracker", "none"]) == 0
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("other-user")))
        yield find("vae").path.resolve()


@pytest.fixture(scope="module")
def whole(run: Path) -> dict[str, Any]:
    return torch.load(run / "checkpoints/last.ckpt", weights_only=True)


def paths_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The keys of each part of a checkpoint; of a list, of states of parameters and of weights the first part alone."""
    if path:
        yield path
    if isinstance(value, list | dict) and value:
        is_alike = isinstance(value, list) or path[-1:] in (("state",), ("state_dict",))
        keys = list(range(len(value)) if isinstance(value, list) else value)
        for key in keys[:1] if is_alike else keys:
            yield from paths_in(value[key], (*path, key))


def replaced(whole: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """A checkpoint with another value at `path`."""
    checkpoint = copy.copy(whole)
    part: Any = checkpoint
    for key in path[:-1]:
        part[key] = copy.copy(part[key])
        part = part[key]
    part[path[-1]] = value
    return checkpoint


@pytest.mark.slow
def test_the_checks_end_in_one_line_whatever_a_part_holds(
    run: Path, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is trained; each part of a checkpoint is replaced by some of the values in turn."""
    model, path, messages, names = genai.load(run, "last"), Path("x.ckpt"), [], list(VALUES)
    optimizers = check_optimizers(model)
    parts = {name: part for name, part in whole.items() if name != "hyper_parameters"}
    for i, place in enumerate(paths_in(parts)):
        for name in names if len(place) == 1 else [names[(i + j) % len(names)] for j in (0, 5)]:
            checkpoint = replaced(parts, place, VALUES[name])
            monkeypatch.setattr(checks, "read_checkpoint", lambda path, content=checkpoint: checked(content, path))
            try:
                checks.check_checkpoint(path, model, optimizers, max_epochs=2)
            except UserError as error:
                messages.append(str(error))
    assert len(messages) > 150
    assert [message for message in messages if "\n" in message] == []


@pytest.mark.parametrize("name", ["epoch", "global_step", "images_seen", "loops", "callbacks", "optimizer_states"])
def test_a_checkpoint_without_a_part_is_refused(name: str, run: Path, whole: dict[str, Any], tmp_path: Path) -> None:
    torch.save({key: part for key, part in whole.items() if key != name}, tmp_path / "x.ckpt")
    with pytest.raises(UserError, match=f"nothing as {name}"):
        checks.check_checkpoint(tmp_path / "x.ckpt", genai.load(run, "last"), [])


STOPPED = "EarlyStopping{'monitor': 'val/loss', 'mode': 'min'}"
PROGRESS = ("loops", "fit_loop", "epoch_loop.batch_progress")
CRAFTED: dict[str, tuple[tuple[Any, ...], Any]] = {
    "no loops": (("loops",), {"fit_loop": 5}),
    "a loop without counts": (("loops", "fit_loop", "epoch_progress"), {}),
    "a loop that is a number": (PROGRESS, 5),
    "a negative batch": ((*PROGRESS, "current", "ready"), -5),
    "a batch that is a text": ((*PROGRESS, "total", "completed"), "x"),
    "epochs without end": (("loops", "fit_loop", "epoch_progress", "current", "completed"), 2**52),
    "steps that are a text": (("loops", "fit_loop", "epoch_loop.state_dict"), {"_batches_that_stepped": "x"}),
    "a score that is a text": (("callbacks", STOPPED, "best_score"), "x"),
    "options of no optimiser": (("callbacks", "OptimizerOptions", "configured"), [["x"]]),
    "a moment of another shape": (("optimizer_states", 0, "state", 0, "exp_avg"), torch.zeros(7)),
    "a moment of one number": (("optimizer_states", 0, "state", 0, "exp_avg"), torch.zeros(())),
    "no position in the data": (("Digits",), {"epoch": 1}),
}
UNUSED: dict[str, tuple[tuple[Any, ...], Any]] = {  # parts that this model and its loader do not restore
    "states of loaders": (("loops", "fit_loop", "state_dict"), {"combined_loader": [5]}),
    "a schedule too many": (("lr_schedulers",), [{}, {"last_epoch": "x"}]),
}


@pytest.mark.slow
@pytest.mark.parametrize(("path", "value"), CRAFTED.values(), ids=CRAFTED)
def test_a_resume_ends_in_one_line(
    path: tuple[Any, ...], value: Any, run: Path, whole: dict[str, Any], workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = Path(shutil.copytree(run, workspace / "runs/vae/theirs"))
    torch.save(replaced(whole, path, value), theirs / "checkpoints/last.ckpt")
    assert main(["fit", "--resume", str(theirs), "--trainer.max_epochs", "2"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("genai: ")
    assert "is damaged" in line or "cannot be used" in line or "refuses its options" in line


@pytest.mark.slow
@pytest.mark.parametrize(("path", "value"), UNUSED.values(), ids=UNUSED)
def test_a_part_that_is_not_used_changes_nothing(
    path: tuple[Any, ...], value: Any, run: Path, whole: dict[str, Any], workspace: Path
) -> None:
    theirs = Path(shutil.copytree(run, workspace / "runs/vae/theirs"))
    torch.save(replaced(whole, path, value), theirs / "checkpoints/last.ckpt")
    assert main(["fit", "--resume", str(theirs), "--trainer.max_epochs", "2"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["test", "validate", "predict"])
@pytest.mark.parametrize("part", ["callbacks", "loops", "Digits"])
def test_other_verbs_end_in_one_line_too(
    part: str, verb: str, run: Path, whole: dict[str, Any], workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = Path(shutil.copytree(run, workspace / "runs/vae/theirs"))
    torch.save(whole | {part: "x"}, theirs / "checkpoints/last.ckpt")
    status = main([verb, str(theirs), "--checkpoint", "last", "--evaluation.num_samples", "50"])
    assert status == 2 if part != "Digits" else status in (0, 2)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "state",
    [{5: torch.zeros(1)}, {"x": torch.zeros(1).expand(10**12)}, {"averaged": None}, [1], {"x": [[]]}],
    ids=["number", "stretched", "None", "list", "nested"],
)
def test_weights_that_are_none_are_refused(state: Any, run: Path, whole: dict[str, Any], workspace: Path) -> None:
    theirs = Path(shutil.copytree(run, workspace / "theirs"))
    torch.save(whole | {"state_dict": state}, theirs / "checkpoints/last.ckpt")
    with pytest.raises(UserError) as error:
        genai.load(theirs, "last")
    assert "\n" not in str(error.value)


def test_a_checkpoint_that_holds_itself_ends(run: Path, whole: dict[str, Any], tmp_path: Path) -> None:
    endless: list[Any] = []
    endless.append(endless)
    torch.save(whole | {"mine": endless}, tmp_path / "x.ckpt")
    checks.check_checkpoint(tmp_path / "x.ckpt", genai.load(run, "last"), [])
