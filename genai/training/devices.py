"""Devices and processes: which are requested and available, and the strategy that suits the model."""

import os
from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator
from lightning.pytorch.utilities import rank_zero_only
from torch.optim import Optimizer

from genai.errors import UserError
from genai.models.base import VisionModel
from genai.training import cluster

HALF = ("16", "16-mixed", "16-true")
GPUS = ("gpu", "cuda", "mps")


def has_gpu() -> bool:
    """Whether Lightning finds a GPU here."""
    return CUDAAccelerator.is_available() or MPSAccelerator.is_available()


def check_accelerator(trainer: Any) -> None:
    """Raise UserError for `--trainer.accelerator gpu` on a machine without one, for more CPU processes than cores, or
    for several nodes that nothing has started: this one would wait for the others.
    """
    if trainer.accelerator in GPUS and not has_gpu():
        raise UserError(
            "there is no GPU here: leave -c configs/trainer/gpu.yaml out, or add -c configs/trainer/cpu.yaml after it"
        )
    if trainer.num_nodes > 1 and not cluster.launched() and "MASTER_ADDR" not in os.environ:
        raise UserError(
            f"num_nodes {trainer.num_nodes} needs torchrun or srun on each node, and nothing started this process: "
            "use --trainer.num_nodes 1"
        )
    on_cpu = trainer.accelerator == "cpu" or (trainer.accelerator == "auto" and not has_gpu())
    most = os.cpu_count() or 1
    if on_cpu and not cluster.launched() and str(trainer.devices).isdecimal() and int(trainer.devices) > most:
        raise UserError(
            f"--trainer.devices {trainer.devices} is more than the {most} CPU cores of this machine: use {most} or fewer"
        )


def check_precision(trainer: Any, model: L.LightningModule) -> None:
    """Raise UserError for 16-mixed on a CPU, where torch would silently compute in bfloat16, and for weights of 16 or 64 bits.

    Averaged weights of 16 bits would round away the small step of each update. The noise from which images are sampled has 32
    bits; models of text have none.
    """
    if str(trainer.precision) in ("16-true", "bf16-true"):
        raise UserError(f"precision {trainer.precision} would freeze the averaged weights: use bf16-mixed or 16-mixed")
    if str(trainer.precision) in ("64", "64-true") and isinstance(model, VisionModel):
        raise UserError(f"precision {trainer.precision} is only for models of text: use --trainer.precision 32")
    on_cpu = trainer.accelerator == "cpu" or (trainer.accelerator == "auto" and not torch.cuda.is_available())
    if on_cpu and str(trainer.precision) in HALF:
        raise UserError(f"precision {trainer.precision} needs a GPU: use --trainer.precision bf16-mixed or 32 on a CPU")


def check_flags_of_manual_optimisation(trainer: Any, model: L.LightningModule) -> None:
    """Raise UserError for a Trainer flag that Lightning refuses for a model with two optimisers, naming the model's option.

    Such a model says in its class attribute `MANUAL_FLAGS` which of its options does what a flag of the Trainer does.
    """
    options: dict[str, str] = getattr(model, "MANUAL_FLAGS", {})
    given = {name: getattr(trainer, name) for name in ("gradient_clip_val", "accumulate_grad_batches")}
    for name, value in given.items():
        if name in options and value not in (None, 0, 1 if name == "accumulate_grad_batches" else None):
            raise UserError(
                f"a {type(model).__name__} has two optimisers, for which the Trainer has no {name}: "
                f"use --model.init_args.{options[name]} {value} instead of --trainer.{name} {value}"
            )


def strategy(trainer: Any, model: L.LightningModule) -> Any:
    """The user's strategy; with several processes and none given, the DDP that suits the number of optimisers."""
    several = num_processes(trainer) > 1
    if trainer.strategy not in ("auto", "ddp") or not several:
        return trainer.strategy
    has_two = len(optimizers_in(model.configure_optimizers())) > 1
    return "ddp_find_unused_parameters_true" if has_two else "ddp"  # one network's loss leaves the other without a gradient


def optimizers_in(configured: Any) -> list[Optimizer]:
    """The optimisers in what `configure_optimizers` returns, in any of Lightning's forms."""
    if isinstance(configured, Optimizer):
        return [configured]
    if isinstance(configured, Mapping):
        return [configured["optimizer"]]
    first = configured[0] if configured else None
    parts = first if isinstance(first, list | tuple) else configured or []  # (optimisers, schedules), or a sequence of either
    return [optimizer for part in parts for optimizer in optimizers_in(part)]


def num_processes(trainer: Any) -> int:
    """Processes this training will have, as far as the options and the environment tell."""
    if launched := cluster.launched():
        return launched["devices"] * launched["num_nodes"]
    wants_all = trainer.devices in ("auto", -1, "-1")
    gpus = torch.cuda.device_count() if trainer.accelerator != "cpu" else 1
    if wants_all:
        local = gpus
    elif isinstance(trainer.devices, list):
        local = len(trainer.devices)
    else:
        local = len(str(trainer.devices).split(",")) if "," in str(trainer.devices) else int(trainer.devices)
    return local * trainer.num_nodes


def global_rank() -> int:
    """This process's rank, known before the trainer is."""
    return int(getattr(rank_zero_only, "rank", 0))
