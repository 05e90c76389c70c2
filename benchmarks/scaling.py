"""Images a second of training with one process and with two, on two cores; and the share of it that waits for data.

    python benchmarks/scaling.py [--configs configs/digits/gan.yaml ...] [--steps 200] [--rounds 3]

Each config is trained in three ways with the same images per step: one process with one thread, one process with two threads,
two processes (gloo) with one thread each. They take turns, and the best round of each counts. The first fifth of the steps is
not timed. The loader's share is the time from the end of a step to the arrival of the next batch on the device.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch
from rich.console import Console
from rich.table import Table

from genai.engine import quiet_libraries, ready_cli


class Layout(NamedTuple):
    name: str
    processes: int
    threads: int


LAYOUTS = (
    Layout("1 process, 1 thread", 1, 1),
    Layout("1 process, 2 threads", 1, 2),
    Layout("2 processes, 1 thread each", 2, 1),
)
QUIET = ["--tracker", "none", "--trainer.logger", "false", "--trainer.enable_progress_bar", "false"]
QUIET += ["--trainer.enable_model_summary", "false", "--trainer.accelerator", "cpu", "--trainer.max_epochs", "-1"]
QUIET += ["--trainer.limit_val_batches", "0", "--quality.every_n_epochs", "0", "--gallery.every_n_epochs", "0"]


class Clock(L.Callback):
    """Times the steps after a warm-up, and what of it passes between steps."""

    def __init__(self, steps: int) -> None:
        self.steps, self.warm_up = steps, steps // 5
        self.done, self.waiting, self.ended, self.start, self.images = 0, 0.0, 0.0, 0.0, 0

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        now = time.perf_counter()
        if self.done == self.warm_up:
            self.start, self.images, self.waiting = now, pl_module.images_seen, 0.0
        elif self.done:
            self.waiting += now - self.ended

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *arguments: Any) -> None:
        self.ended, self.done = time.perf_counter(), self.done + 1
        if self.done == self.steps:
            seconds = self.ended - self.start
            self.result = {"rate": (pl_module.images_seen - self.images) / seconds, "waiting": self.waiting / seconds}
            trainer.should_stop = True


def train(config: str, steps: int, result: Path) -> None:
    """In a process of its own: fit, and write what the clock of the first rank says."""
    quiet_libraries()
    world = int(os.environ.get("WORLD_SIZE", 1))
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    arguments = ["-c", config, *QUIET, "--data.init_args.batch_size", str(64 // world)]
    cli = ready_cli("fit", arguments, [])
    clock = Clock(steps)
    cli.trainer.callbacks.append(clock)  # type: ignore[attr-defined]
    cli.trainer.fit(cli.model, cli.datamodule)
    if cli.trainer.is_global_zero:
        result.write_text(json.dumps(clock.result))


def measure(config: str, steps: int, layout: Layout) -> dict[str, float]:
    """One round of a config in a layout."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"] if layout.processes > 1 else []
        command = [sys.executable, *launch, __file__, "--configs", config, "--steps", str(steps), "--write", str(result)]
        environment = os.environ | {"GENAI_RUNS": folder, "OMP_NUM_THREADS": str(layout.threads), "OMP_WAIT_POLICY": "PASSIVE"}
        subprocess.run(command, env=environment, check=True, capture_output=True, cwd=Path(__file__).parent.parent)
        content: dict[str, float] = json.loads(result.read_text())
    return content


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", nargs="+", default=["configs/digits/gan.yaml", "configs/digits/diffusion.yaml"])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        train(options.configs[0], options.steps, options.write)
        return
    table = Table("config", "layout", "images/s", "against 1 thread", "waits for data", title="64 images a step")
    for config in options.configs:
        rounds = [[measure(config, options.steps, layout) for layout in LAYOUTS] for _ in range(options.rounds)]
        best = [max((measured[i] for measured in rounds), key=lambda result: result["rate"]) for i in range(len(LAYOUTS))]
        for layout, result in zip(LAYOUTS, best, strict=True):
            speed = f"{result['rate']:,.0f}", f"{result['rate'] / best[0]['rate']:.2f}", f"{100 * result['waiting']:.1f} %"
            table.add_row(config, layout.name, *speed)
    Console().print(table)


if __name__ == "__main__":
    main()
