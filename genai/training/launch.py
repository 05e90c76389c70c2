"""Run fit, validate, test or predict, and print where the results are."""

import contextlib
import logging
import re
import shlex
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from genai import runs
from genai.errors import UserError
from genai.files import open_atomically
from genai.images import to_uint8
from genai.metrics.registry import all_metrics
from genai.models.base import ImageModel
from genai.models.capabilities import Classifies
from genai.models.text import TextModel
from genai.runs.loading import first_difference, import_weights, read_checkpoint
from genai.runs.trust import Policy
from genai.training import cluster
from genai.training.arguments import parse, resolve
from genai.training.callbacks.preemption import Stopped
from genai.training.checks import is_score_of_samples
from genai.training.lightning_cli import GenaiCLI
from genai.training.loggers import finish
from genai.training.record import command_line

HIDDEN_WARNINGS = (
    ".*does not have many workers.*",
    ".*dataloader is not resumable.*",
    ".*This DataLoader will create .* worker processes.*",
    ".*LightningCLI's args parameter.*",
    ".*in eval mode at the start of training.*",
    ".*callbacks used to create the checkpoint need to be provided.*",
    ".*ModelCheckpoint with manual optimization.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*The number of training batches.*is smaller than the logging interval.*",
    ".*`max_epochs` was not set.*",
    ".*this fit will run with no optimizer.*",  # n-grams are counted
    ".*isinstance.treespec, LeafSpec.*is deprecated.*",
    r"\s*Unable to serialize instance",  # see `Parser.dump`
)
HIDDEN_LOG_MESSAGES = re.compile(
    r"litlogger|litmodels|💡|TPU available|GPU available: False|HPU available|`Trainer\.fit` stopped: `max_"
    r"|`Trainer.limit_\w+_batches=1.` was configured|Seed set to|Restor(ing|ed) |LoadedRun model weights"
)


def quiet_libraries() -> None:
    """Hide messages of Lightning that do not concern a user of this suite."""
    for message in HIDDEN_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    warnings.filterwarnings("ignore", category=FutureWarning)
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed"):
        logging.getLogger(name).addFilter(lambda record: not HIDDEN_LOG_MESSAGES.search(record.getMessage()))


def run(verb: str, arguments: list[str], callbacks: Sequence[L.Callback] = ()) -> Path | None:
    """Run one of Lightning's verbs with `arguments` (what follows the verb), and `callbacks` besides those of the arguments.

    Returns the run directory, if there is one.
    """
    request = parse(arguments)
    words, policy = list(request.rest), None
    if "--help-all" in words:
        words = ["--help"]
    elif "--print_config" not in words or verb == "fit":
        words, policy = resolve(verb, request)
    quiet_libraries()
    policy = policy or Policy(Path(), unrestricted=True)
    with policy.enforced():
        with policy.refusing():
            command = command_line(["genai", verb, *arguments])
            cli = GenaiCLI(verb, words, request.trust, policy, request.changed_data, callbacks, command)
        checkpoint = cli.options.ckpt_path if "ckpt_path" in cli.options else None
        with policy.refusing(checkpoint) if checkpoint else contextlib.nullcontext():
            run_verb(verb, cli)
    return Path(cli.options.run_dir) if cli.options.run_dir else None


def run_verb(verb: str, cli: GenaiCLI) -> None:
    """Run the verb and print where its results are."""
    run_dir = Path(cli.options.run_dir) if cli.options.run_dir else None
    trainer = cli.trainer
    call: dict[str, Any] = {"datamodule": cli.datamodule, "weights_only": True}
    call |= {"ckpt_path": cli.options.ckpt_path} if "ckpt_path" in cli.options else {}
    call |= {"verbose": False} if verb in ("validate", "test") else {}  # our own table is printed instead of Lightning's
    try:
        if run_dir and runs.Run(run_dir).is_exported:
            import_weights(cli.model, runs.Run(run_dir))
        if verb == "predict" and isinstance(cli.model, TextModel):
            raise UserError("predict is for models of images: `genai sample RUN` generates text")
        if verb == "predict" and trainer.world_size > 1:
            raise UserError("predict works with one process: add --trainer.devices 1")
        if call.get("ckpt_path") and verb != "fit":
            read_checkpoint(Path(call["ckpt_path"]))  # a damaged one is refused in one line
            if trainer.is_global_zero:
                print(f"checkpoint: {call['ckpt_path']}")
        output = getattr(trainer, verb)(cli.model, **call)
    except MisconfigurationException as error:  # a callback of the user's monitors what is not logged, say
        raise UserError(f"the trainer refuses its options: {with_advice(error)}") from None
    except RuntimeError as error:
        if "loading state_dict" in str(error):
            raise UserError(f"{call['ckpt_path']} is a checkpoint of another model: {first_difference(error)}") from None
        if "DataLoader" in str(error):
            reason = " ".join(str(error).split())
            raise UserError(
                f"a loader process failed ({reason}): use --data.init_args.num_workers 0, which is as fast"
            ) from None
        if "Early stopping conditioned on metric" in str(error):
            raise UserError(with_advice(error)) from None
        check_callbacks(error, call.get("ckpt_path"))
        raise
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        check_callbacks(error, call.get("ckpt_path"))
        raise
    except Stopped as stopped:
        if not trainer.is_global_zero:
            sys.exit(2)
        raise UserError(f"{stopped}{cluster.requeue(stopped)}; {how_to_continue(run_dir)}") from None
    finally:
        finish(trainer.loggers)
        if cli.lock is not None:
            cli.lock.release()
    if not trainer.is_global_zero or run_dir is None:
        return
    if verb in ("validate", "test") and not isinstance(cli.model, TextModel):  # EvaluateText prints those
        print_model_metrics(output)
    if verb == "predict":
        write_predictions(run_dir, output)
    if verb == "fit":
        epochs = "1 epoch" if trainer.current_epoch == 1 else f"{trainer.current_epoch} epochs"
        print(f"trained for {epochs}, {int(cli.model.images_seen):,} {cli.model.unit}; the run is in {run_dir}")
        by_steps = 0 < trainer.max_steps <= trainer.global_step
        print("\n".join(next_steps(run_dir, cli.model, "max_steps" if by_steps else "max_epochs")))


def with_advice(error: Exception) -> str:
    """What Lightning says of a metric that a callback monitors; a score of samples is there in the scored epochs alone."""
    names = re.findall(r"(?:metric `|monitor=')([^`']+)", str(error))
    advice = "; score each epoch: --evaluation.every_n_epochs 1" if any(map(is_score_of_samples, names)) else ""
    return f"{error}{advice}"


def check_callbacks(error: Exception, checkpoint: str | None) -> None:
    """Raise UserError if a callback of Lightning raised `error`: some are not for each model, or cannot restore their state."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        callback = frame.f_locals.get("self")
        if isinstance(callback, L.Callback) and type(callback).__module__.startswith("lightning."):
            name, reason = type(callback).__name__, f"{type(error).__name__}: {' '.join(str(error).split())}"
            if checkpoint is None:
                raise UserError(f"Lightning's {name} fails with this model ({reason}): leave it out") from None
            raise UserError(
                f"{checkpoint} cannot be used with Lightning's {name} ({reason}): leave the callbacks out with "
                "--trainer.callbacks null"
            ) from None


def print_model_metrics(output: list[dict[str, float]]) -> None:
    """Print the metrics that the model itself logged; `EvaluateSamples` prints those of its samples as a table."""
    of_samples = {metric.name for metric in all_metrics()}
    values = {name: value for metrics in output for name, value in metrics.items()}
    own = {name: value for name, value in values.items() if name.partition("/")[2].removesuffix("_std") not in of_samples}
    if own:
        print("\n".join(f"{name:<28} {value:.4f}" for name, value in own.items()))


def next_steps(run_dir: Path, model: L.LightningModule, limit: str = "max_epochs") -> list[str]:
    """The closing lines of a fit: what can be done with this run, as commands to copy.

    Args:
        run_dir: of the run.
        model: that was trained.
        limit: the option of the trainer that ended the fit.
    """
    if not any(run_dir.glob("checkpoints/*.ckpt")):
        return ["  it has no checkpoint, so it cannot be scored or continued: leave --trainer.enable_checkpointing false out"]
    run = shlex.quote(str(run_dir))
    lines = [f"  score it:    genai test {run}"]
    if isinstance(model, ImageModel | TextModel):
        lines.append(f"  sample it:   genai sample {run}")
    if isinstance(model, TextModel):
        lines.append(f"  inspect it:  genai likelihood {run}; genai tokens {run} --prompt TEXT")
    if isinstance(model, Classifies) and not getattr(model, "attributes", False):
        lines.append(f"  use it:      genai classify {run}")
    if (run_dir / "checkpoints/last.ckpt").is_file() and not getattr(model, "is_fitted_once", False):
        lines.append(f"  continue it: genai fit --resume {run} --trainer.{limit} MORE")
    return lines


def how_to_continue(run_dir: Path | None) -> str:
    """How to continue a fit that was stopped, for a message."""
    if run_dir is None or not (run_dir / "checkpoints/last.ckpt").is_file():
        return "no checkpoint was written: start it again"
    return f"to continue: genai fit --resume {shlex.quote(str(run_dir))}"


def write_predictions(run_dir: Path, batches: list[torch.Tensor]) -> None:
    """Save what `predict` returned as RUN/predictions.npz: images uint8 (N, C, H, W), or a classifier's probabilities (N, K).

    A zoo entry is read-only: its file is NAME-predictions.npz in the current folder.
    """
    exported = runs.Run(run_dir).is_exported
    path = Path(f"{run_dir.name}-predictions.npz") if exported else run_dir / "predictions.npz"
    output = torch.cat(batches)
    arrays = {"images": to_uint8(output).numpy()} if output.ndim == 4 else {"probabilities": output.numpy()}
    with open_atomically(path) as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    print(f"wrote {path}")
