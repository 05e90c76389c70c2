"""The energy of a fit, by codecarbon: measured where the processor or GPU counts it, else estimated; nothing is sent."""

import logging
from typing import Any

import lightning as L
import torch

from genai.errors import UserError
from genai.runs import Run, merge_json
from genai.training.callbacks.preemption import Stopped
from genai.training.callbacks.run_directory import run_dir_of

SECONDS_BETWEEN_READINGS = 15


class Energy(L.Callback):
    """Adds `energy_kwh` and `energy_source` to the `cost` in the metrics.json of a run when a fit ends.

    The energy is that of the processor and of all GPUs that the process sees, without memory and cooling, over the fits of the
    run that measured it. With several processes the first one of each node measures the whole node.
    `energy_source` is `measured` (RAPL of the processor, NVML of the GPU) or `estimated`, with what the estimate assumes.
    codecarbon runs offline, and reads its own environment variables: CODECARBON_FORCE_CPU_POWER=WATTS sets the power of a
    processor that it does not know. Looking for the hardware takes some seconds before the first step.

    Args:
        several: whether the fit has several processes.

    Raises:
        UserError: codecarbon is not installed.
    """

    def __init__(self, several: bool = False) -> None:
        self.tracker = make_tracker("machine" if several else "process")

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.local_rank == 0:
            self.tracker.start()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        run_dir = run_dir_of(trainer)
        self.tracker.stop()
        own = float(self.tracker.final_emissions_data.energy_consumed) if trainer.local_rank == 0 else 0.0
        of_nodes = torch.tensor(own, dtype=torch.float32, device=trainer.strategy.root_device)
        of_all = float(trainer.strategy.reduce(of_nodes, reduce_op="sum"))
        if run_dir is None or not trainer.is_global_zero:
            return
        cost = Run(run_dir).scores().get("cost", {})
        energy = cost.get("energy_kwh", 0.0) + of_all
        merge_json(run_dir / "metrics.json", {"cost": cost | {"energy_kwh": energy, "energy_source": source(self.tracker)}})

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, Stopped):
            self.on_train_end(trainer, pl_module)
        else:
            self.tracker.stop()


def make_tracker(mode: str = "process") -> Any:
    """codecarbon's tracker of this process or of the `machine`, without files, network and messages.

    Raises:
        UserError: codecarbon is not installed.
    """
    try:
        from codecarbon import OfflineEmissionsTracker
    except ImportError:
        raise UserError('--energy needs codecarbon: pip install "genai[energy]"') from None
    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)  # before it makes its handlers
    return OfflineEmissionsTracker(
        country_iso_code="USA",  # for grams of CO2, which are not used: a grid's mix says nothing about a model
        measure_power_secs=SECONDS_BETWEEN_READINGS,
        tracking_mode=mode,
        force_ram_power=0,
        allow_multiple_runs=True,
        save_to_file=False,
        save_to_api=False,
        log_level="critical",
    )


def source(tracker: Any) -> str:
    """`measured`, or `estimated` with the assumption about the processor.

    Args:
        tracker: a codecarbon tracker that has been started.
    """
    parts = []
    for hardware in tracker._hardware:
        kind, mode = type(hardware).__name__, getattr(hardware, "_mode", "")
        if kind == "CPU" and mode in ("cpu_load", "constant"):
            parts.append(f"processor of {hardware._tdp:g} W by its load" if mode == "cpu_load" else f"{hardware._tdp:g} W")
    return f"estimated ({', '.join(parts)})" if parts else "measured"
