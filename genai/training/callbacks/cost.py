"""What a fit costs: wall-clock time, peak memory, and the floating-point operations of one sample."""

import platform
import resource
import sys
import time

import lightning as L
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from genai.models.base import ImageModel
from genai.models.seeds import image_seeds
from genai.runs import Run, merge_json
from genai.training.callbacks.run_directory import run_dir_of


class Cost(L.Callback):
    """Sets `cost` in the metrics.json of a run when a fit ends, also one that was interrupted.

    seconds: wall-clock time of training and validation, over all the fits that continued the run.
    peak_memory: bytes of the largest process, or of the GPU where there is one.
    sample_flops: floating-point operations of one sample: one multiply-add counts as two.
    device: the GPU or processor.
    """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.start = time.perf_counter()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        run_dir = run_dir_of(trainer)
        if run_dir is None or not trainer.is_global_zero:
            return
        seconds = time.perf_counter() - self.start
        before = Run(run_dir).scores().get("cost", {}).get("seconds", 0.0)
        cost: dict[str, float | str] = {"seconds": round(before + seconds, 1), "device": name_of(pl_module.device)}
        cost["peak_memory"] = peak_memory(pl_module.device)
        if isinstance(pl_module, ImageModel) and trainer.world_size == 1:
            labels = trainer.datamodule.split("val").batch([0]).labels if pl_module.conditional else None  # type: ignore[attr-defined]
            cost["sample_flops"] = sample_flops(pl_module, labels)
        merge_json(run_dir / "metrics.json", {"cost": cost})


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
