"""What a fit costs: wall-clock time, peak memory, floating-point operations of its steps and of one sample."""

import platform
import resource
import sys
import time
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.flop_counter import FlopCounterMode

from genai.models.base import ImageModel
from genai.models.seeds import image_seeds
from genai.runs import Run, merge_json
from genai.training.callbacks.announcement import trained_network
from genai.training.callbacks.preemption import Stopped
from genai.training.callbacks.run_directory import run_dir_of

COUNTED_STEPS = 4  # of each optimiser; their mean is the cost of a step
MAX_BATCHES = 24  # that are counted in a row


class StepFlops:
    """Counts the floating-point operations of the first steps of each optimiser, inside of the training itself.

    Operations belong to the optimiser that steps next. torch counts matrix products, convolutions and attention, forward and
    backward, a multiply-add as two operations.

    Args:
        optimizers: by the name of the network that each trains.
    """

    def __init__(self, optimizers: dict[str, Optimizer]) -> None:
        self.counted: dict[str, list[int]] = {name: [] for name in optimizers}
        self.steps = dict.fromkeys(optimizers, 0)
        self.batches_left = MAX_BATCHES
        self.counter: FlopCounterMode | None = None
        self.assigned = 0  # operations of this batch that belong to a step; less than 0: those of batches without a step
        self.handles = [
            optimizer.register_step_post_hook(lambda *_, name=name: self.step(name)) for name, optimizer in optimizers.items()
        ]

    def start_batch(self) -> None:
        """Begin to count while an optimiser has too few counted steps."""
        if self.batches_left > 0 and any(len(flops) < COUNTED_STEPS for flops in self.counted.values()):
            self.batches_left -= 1
            self.counter = FlopCounterMode(display=False)
            self.counter.__enter__()

    def step(self, name: str) -> None:
        """An optimiser has stepped: it gets the operations since the last step."""
        self.steps[name] += 1
        if self.counter is not None:
            total = self.counter.get_total_flops()
            self.counted[name].append(total - self.assigned)
            self.assigned = total
        elif not self.counted[name]:  # an optimiser of a later stage: count its next steps
            self.batches_left = MAX_BATCHES

    def end_batch(self) -> None:
        """Stop counting; operations of a batch without a step (gradient accumulation) belong to the next step."""
        if self.counter is not None:
            self.counter.__exit__(None, None, None)
            self.assigned -= self.counter.get_total_flops()
            self.counter = None

    def close(self) -> None:
        """Stop counting and listening."""
        self.end_batch()
        for handle in self.handles:
            handle.remove()

    def mean(self) -> dict[str, int]:
        """Operations of one step, by name; without what was not counted."""
        means = {name: round(sum(flops) / len(flops)) for name, flops in self.counted.items() if flops}
        return {name: mean for name, mean in means.items() if mean}


class Cost(L.Callback):
    """Sets `cost` in the metrics.json of a run when a fit ends, also one that was interrupted.

    seconds: wall-clock time of training and validation, over all the fits that continued the run.
    peak_memory: bytes of the largest process, or of the GPU where there is one.
    step_flops: floating-point operations of one step of each network on all devices, the mean of the first `COUNTED_STEPS`.
    train_flops: those of all steps, over all the fits that continued the run. Both are absent without `count_flops`, and
        where `is_countable` is false.
    sample_flops: those of one sample: one multiply-add counts as two.
    device: the GPU or processor.

    Args:
        count_flops: count the operations of steps. Counted steps may round otherwise than others, so a resumed fit is then
            equal to one without an interruption up to rounding only.
    """

    def __init__(self, count_flops: bool = False) -> None:
        self.count_flops = count_flops
        self.start = 0.0
        self.flops: StepFlops | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.start = time.perf_counter()
        if self.count_flops and trainer.is_global_zero and is_countable(pl_module):
            optimizers = [optimizer for optimizer in trainer.optimizers if optimizer.param_groups]  # no mock
            self.flops = StepFlops({trained_network(optimizer, pl_module): optimizer for optimizer in optimizers})

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        if self.flops is not None:
            self.flops.start_batch()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.flops is not None:
            self.flops.end_batch()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self.teardown(trainer, pl_module, "fit")
        if isinstance(exception, Stopped) and self.start:
            self.write(trainer, pl_module, {})

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if self.flops is not None:
            self.flops.close()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        sampling: dict[str, Any] = {}
        if isinstance(pl_module, ImageModel) and trainer.world_size == 1 and run_dir_of(trainer) is not None:
            labels = trainer.datamodule.split("val").batch([0]).labels if pl_module.conditional else None  # type: ignore[attr-defined]
            sampling["sample_flops"] = sample_flops(pl_module, labels)
        self.write(trainer, pl_module, sampling)

    def write(self, trainer: L.Trainer, pl_module: L.LightningModule, sampling: dict[str, Any]) -> None:
        """Add the cost since `on_train_start`, and that of a sample, to the run's metrics.json."""
        run_dir = run_dir_of(trainer)
        if run_dir is None or not trainer.is_global_zero:
            return
        before = Run(run_dir).scores().get("cost", {})
        seconds = before.get("seconds", 0.0) + time.perf_counter() - self.start
        cost: dict[str, Any] = {"seconds": round(seconds, 1), "device": name_of(pl_module.device)}
        cost["peak_memory"] = peak_memory(pl_module.device)
        if self.flops is not None and (means := self.flops.mean()):
            cost["step_flops"] = {name: trainer.world_size * mean for name, mean in means.items()}
            total = sum(cost["step_flops"].get(name, 0) * steps for name, steps in self.flops.steps.items())
            cost["train_flops"] = before.get("train_flops", 0) + total
        merge_json(run_dir / "metrics.json", {"cost": before | cost | sampling})


def is_countable(model: nn.Module) -> bool:
    """Whether torch can count a model's operations as it trains.

    Counting would run compiled networks uncompiled, and torch has no formula for an LSTM.
    """
    parts = list(model.modules())
    return not any(isinstance(part, nn.RNNBase) or part._compiled_call_impl is not None for part in parts)


def sample_flops(model: ImageModel, condition: Tensor | None) -> int:
    """Floating-point operations of one sample by itself; `sample` generates whole chunks.

    Args:
        model: on any device.
        condition: that of the sample, (1,), (1, K) or (1, L); None for an unconditional model.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.generate(image_seeds(0, 1), None if condition is None else condition.to(model.device))
    return int(counter.get_total_flops())


def peak_memory(device: torch.device) -> int:
    """Bytes that this process, or its GPU, has used at most."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(usage * (1 if sys.platform == "darwin" else 1024))


def name_of(device: torch.device) -> str:
    """The name of a GPU, or the kind of processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
