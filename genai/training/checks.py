"""What is refused before a run directory exists: options that contradict the data, the checkpoint or the metrics."""

import difflib
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import lightning as L
from torch.optim import Optimizer

from genai.data.module import DataModule
from genai.data.text import TextDataModule
from genai.errors import UserError
from genai.metrics.registry import all_metrics
from genai.models.base import ImageModel, Model
from genai.models.conditions import check_labels
from genai.models.text import TextModel
from genai.runs.loading import first_difference, read_checkpoint
from genai.training.callbacks.options import OPTIMIZER_CLASSES
from genai.training.devices import optimizers_in
from genai.training.restoring import check_content, check_moments, check_optimizer_state, check_position

LATER_OPTIONS = {"foreach", "maximize", "capturable", "differentiable", "fused", "decoupled_weight_decay"}
"""Options that an optimiser of another version of torch may lack; torch fills them in."""
SCHEDULED = {"initial_lr", "swa_lr"}
"""What schedulers write into an optimiser, those of torch and of Lightning's StochasticWeightAveraging."""


def check_seed(seed: Any) -> None:
    """Raise UserError for a `--seed_everything` that numpy does not take."""
    if not isinstance(seed, bool) and not 0 <= int(seed) < 2**32:
        raise UserError(f"seed_everything {seed} is out of range: use 0 to {2**32 - 1}")


def check_experiment(name: str | None) -> None:
    """Raise UserError for an `--experiment` that is not the name of one folder; `genai runs` looks in runs/NAME."""
    if name is None:
        return
    is_name = name.isprintable() and name == name.strip() and not set(name) & set("/\\") and len(os.fsencode(name)) <= 200
    if not is_name or name in ("", ".", "..") or name.startswith("-"):
        raise UserError(f"experiment {name[:60]!r} is not a valid folder name: use letters, digits and -, such as my-gan")


def check_kind(model: L.LightningModule, data: DataModule) -> None:
    """Raise UserError for a text model with images, or a model of images with text."""
    kinds = {True: "text", False: "images"}
    of_model, of_data = isinstance(model, TextModel), isinstance(data, TextDataModule)
    if isinstance(model, Model) and of_model != of_data:
        raise UserError(
            f"a {type(model).__name__} is a model of {kinds[of_model]}, and the data {data.name} are {kinds[of_data]}: "
            "choose another --model or --data"
        )


def check_model(model: L.LightningModule, num_classes: int, batch_size: int) -> None:
    """Compare a model with its data.

    Raises:
        UserError: a conditional model of data without labels, or batches with fewer images than microbatches.
    """
    check_labels(getattr(model, "conditional", False), num_classes)
    parts = int(getattr(model, "num_microbatches", 1))
    if not 1 <= parts <= batch_size:
        raise UserError(
            f"num_microbatches {parts} is out of range: a batch of {batch_size} images has 1 to {batch_size} parts "
            "(--model.init_args.num_microbatches, --data.init_args.batch_size)"
        )


def check_optimizers(model: L.LightningModule) -> list[Optimizer]:
    """The optimisers of `model`, built to see whether their options are valid; none where they need a trainer.

    Raises:
        UserError: torch refuses an option, such as a negative learning rate.
    """
    try:
        return optimizers_in(model.configure_optimizers())
    except (ValueError, TypeError) as error:
        raise UserError(f"the optimiser refuses its options: {error}") from None
    except RuntimeError as error:
        if "not attached to a `Trainer`" in str(error):
            return []
        raise


def check_best_metric(name: str, model: L.LightningModule, others_log: bool) -> None:
    """Raise UserError, with the nearest name, for a `--best_metric` that no validation of `model` will log.

    Args:
        name: of the metric.
        model: says in `val_metrics` what its validation logs.
        others_log: whether callbacks of the user may log metrics of their own; then only a near miss is refused.
    """
    if not isinstance(model, Model):
        return
    of_samples = [f"val/{metric.name}" for metric in all_metrics()] if isinstance(model, ImageModel) else []
    known = [*of_samples, *(f"val/{metric}" for metric in model.val_metrics or ("loss",))]
    stems = [*known, *(f"{metric}_std" for metric in of_samples)]
    if name in stems or any(name.startswith(f"{metric}/") for metric in known):  # val/accuracy/NAME
        return
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    is_open = model.val_metrics is None or others_log
    near_miss = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
    if near_miss or not is_open:
        advice = f"did you mean `{close[0]}`?" if close else f"choose one of {', '.join(known)}"
        raise UserError(f"best_metric `{name}` is not among the metrics of this fit: {advice}")


def is_score_of_samples(metric: str) -> bool:
    """Whether a `--best_metric` is computed from samples in scored epochs, such as val/fid, and not by each validation."""
    name = metric.removeprefix("val/").split("/")[0].removesuffix("_std")
    return name in {known.name for known in all_metrics()}


def check_checkpoint(
    path: Path,
    model: L.LightningModule,
    optimizers: Sequence[Optimizer],
    data: DataModule | None = None,
    max_epochs: int | None = None,
) -> None:
    """Load a checkpoint's weights into `model` and compare its optimisers, and its training data where `data` are given.

    Raises:
        UserError: it is damaged, or one of another network or optimiser, or of other training data, or beyond
            `max_epochs` (None and -1: no limit).
    """
    checkpoint = read_checkpoint(path)
    check_content(checkpoint, path)
    state = checkpoint.get(type(data).__qualname__)
    check_position(state, path)
    if max_epochs is not None and -1 < max_epochs < checkpoint["epoch"]:
        least = checkpoint["epoch"] + 1
        raise UserError(f"{path} is beyond epoch {max_epochs}: resume with --trainer.max_epochs {least} or more")
    if data is not None and state is not None and data.has_changed(state):
        raise UserError(
            f"{path} was trained with other data than {data.name} has now, so the run cannot be continued exactly: give it "
            "the data and data options that it had, start a new run with --init_from, or add --changed_data to resume anyway"
        )
    try:
        model.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        raise UserError(
            f"{path} is a checkpoint of another model: {first_difference(error)}; "
            "leave the options that change the network out, or start a new run"
        ) from None
    saved = checkpoint.get("optimizer_states", [])
    if optimizers and saved and len(optimizers) != len(saved):
        raise UserError(
            f"{path} has {len(saved)} optimisers and the model {len(optimizers)}: resume with the run's own options"
        )
    names = checkpoint.get(OPTIMIZER_CLASSES, [])
    for optimizer, name in zip(optimizers, names, strict=False):
        if name != type(optimizer).__name__:
            raise UserError(
                f"{path} has the state of {name}, not of {type(optimizer).__name__}: resume with the run's own optimiser, or "
                "start a new run with --init_from"
            )
    for optimizer, state in zip(optimizers, saved, strict=False):
        check_optimizer_state(state, optimizer, path)
        if difference := differing_options(optimizer, state["param_groups"][0]):
            raise UserError(
                f"{path} has the state of another optimiser than {type(optimizer).__name__} (only one of them has "
                f"`{difference[0]}`): resume with the run's own, or start a new run with --init_from"
            )
        try:
            optimizer.load_state_dict(state)
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(f"{path} has the state of another optimiser ({error}): resume with the run's own options") from None
        check_moments(optimizer, path)


def differing_options(optimizer: Optimizer, saved: Collection[str]) -> list[str]:
    """The names of options that only one of an optimiser and a saved group of parameters has."""
    ours = set(optimizer.param_groups[0]) - {"params"}
    return sorted((ours ^ (set(saved) - {"params"})) - LATER_OPTIONS - SCHEDULED)
