"""Images a second of training by process and by precision, beside a bare loop; and the share of it that waits for data.

    python benchmarks/scaling.py [--configs configs/digits/gan.yaml ...] [--steps 200] [--rounds 3]
    python benchmarks/scaling.py --by precision [--device cuda] [--batch-size 256] [--threads 2] [--configs ...]

By process, each config is trained with the same images per step in one process with one thread, one with two threads, and two
(gloo) with one thread each. By precision, in one process: float32, bf16-mixed, bf16-mixed compiled, and bf16-mixed in a bare
loop, the model's own step on one batch that lies on the device, without Trainer, loader or callbacks. They take turns, and the
best round of each counts. The first fifth of the steps is not timed. `waits for data` is the time from the end of a step to the
arrival of the next batch on the device; `busy`, in ten more steps under torch's profiler, the share of the time in operations
of the device; `memory`, its peak: allocated on a GPU, resident on a CPU.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import lightning as L
import torch
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

from genai.images import to_float
from genai.runs import REPOSITORY
from genai.training.launch import quiet_libraries
from genai.training.lightning_cli import GenaiCLI


class Way(NamedTuple):
    """How to train: by fit in processes of some threads and with more options, or bare."""

    name: str
    processes: int = 1
    threads: int = 0  # as --threads says
    options: tuple[str, ...] = ()
    bare: bool = False


BF16 = ("--trainer.precision", "bf16-mixed")
WAYS = {
    "process": (
        Way("1 process, 1 thread", 1, 1),
        Way("1 process, 2 threads", 1, 2),
        Way("2 processes, 1 thread each", 2, 1),
    ),
    "precision": (
        Way("32", options=("--trainer.precision", "32")),
        Way("bf16-mixed", options=BF16),
        Way("bf16-mixed, compiled", options=(*BF16, "--model.init_args.compile", "true")),
        Way("bf16-mixed, bare loop", options=BF16, bare=True),
    ),
}
PROFILED = 10  # steps
QUIET = ["--tracker", "none", "--trainer.logger", "false", "--trainer.enable_progress_bar", "false"]
QUIET += ["--trainer.enable_model_summary", "false", "--trainer.devices", "1", "--trainer.max_epochs", "-1"]
QUIET += ["--trainer.limit_val_batches", "0", "--evaluation.every_n_epochs", "0", "--gallery.every_n_epochs", "0"]


class Clock(L.Callback):
    """Times the steps after a warm-up and the waits between them; then profiles a few more."""

    def __init__(self, steps: int, device: str) -> None:
        self.steps, self.warm_up, self.device = steps, steps // 5, device
        self.done, self.waiting, self.ended, self.start, self.images = 0, 0.0, 0.0, 0.0, 0
        self.busy = Busy(device)

    def now(self) -> float:
        """Seconds, after all kernels have finished."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if self.done == self.warm_up:
            self.start, self.images, self.waiting = self.now(), pl_module.images_seen, 0.0
        elif self.done:
            self.waiting += time.perf_counter() - self.ended

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *arguments: Any) -> None:
        self.ended, self.done = time.perf_counter(), self.done + 1
        if self.done == self.steps:
            seconds = self.now() - self.start
            self.result = {"rate": (pl_module.images_seen - self.images) / seconds, "waiting": self.waiting / seconds}
            self.busy.begin()
        if self.done == self.steps + PROFILED:
            self.result |= {"busy": self.busy.share(), "memory": peak_memory(self.device)}
            trainer.should_stop = True


class Busy:
    """The share of the time that a device is in operations, by torch's profiler."""

    def __init__(self, device: str) -> None:
        self.on_gpu = device == "cuda"
        self.profiler = profile(activities=[ProfilerActivity.CUDA if self.on_gpu else ProfilerActivity.CPU])

    def begin(self) -> None:
        self.profiler.__enter__()
        self.began = time.perf_counter()

    def share(self) -> float:
        if self.on_gpu:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - self.began
        self.profiler.__exit__(None, None, None)
        spent = "self_device_time_total" if self.on_gpu else "self_cpu_time_total"
        return sum(getattr(event, spent) for event in self.profiler.key_averages()) / 1e6 / seconds


def peak_memory(device: str) -> float:
    """MiB."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def train(options: argparse.Namespace, way: Way) -> None:
    """In a separate process: train, and write the times of the first rank."""
    quiet_libraries()
    world = int(os.environ.get("WORLD_SIZE", 1))
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    arguments = ["-c", options.configs[0], *QUIET, "--data.init_args.batch_size", str(options.batch_size // world)]
    arguments += ["--trainer.accelerator", "gpu" if options.device == "cuda" else "cpu", *way.options]
    cli = GenaiCLI("fit", arguments, [])
    clock = Clock(options.steps, options.device)
    if way.bare:
        bare(cli.model, cli.datamodule, clock, options)
    else:
        cli.trainer.callbacks.append(clock)  # type: ignore[attr-defined]
        cli.trainer.fit(cli.model, cli.datamodule)
    if cli.trainer.is_global_zero:
        options.write.write_text(json.dumps(clock.result))


def bare(model: Any, data: Any, clock: Clock, options: argparse.Namespace) -> None:
    """Repeat the model's training step on one batch, in bf16, with plain optimisers and without a Trainer."""
    data.prepare_data()
    data.setup("fit")
    batch = [part.to(options.device) for part in data.split("train").batch(range(options.batch_size))]
    batch[0] = to_float(batch[0])
    model.to(options.device).train()
    made = model.configure_optimizers()
    optimizers = made if isinstance(made, list) else [made]
    for optimizer in optimizers:
        optimizer.register_step_pre_hook(lambda optimizer, *_: model.on_before_optimizer_step(optimizer))
    model.optimizers = lambda: made
    model.manual_backward = lambda loss: loss.backward()
    model.track = lambda metrics: None
    same = SimpleNamespace(reduce=lambda value, **_: value)
    model._trainer = stub = SimpleNamespace(
        strategy=same, world_size=1, precision_plugin=None, optimizers=optimizers, should_stop=False
    )
    while not stub.should_stop:
        clock.on_train_batch_start(stub, model, batch, 0)
        with torch.autocast(options.device, torch.bfloat16):
            model.training_step(batch, clock.done)
        clock.on_train_batch_end(stub, model)


def measure(config: str, options: argparse.Namespace, i: int) -> dict[str, float]:
    """One round of a config in the i-th way."""
    way = WAYS[options.by][i]
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"] if way.processes > 1 else []
        command = [sys.executable, *launch, __file__, "--configs", config, "--by", options.by, "--way", str(i)]
        command += ["--steps", str(options.steps), "--batch-size", str(options.batch_size), "--device", options.device]
        threads = {"OMP_NUM_THREADS": str(way.threads or options.threads), "OMP_WAIT_POLICY": "PASSIVE"}
        done = subprocess.run(
            [*command, "--write", str(result)],
            env=os.environ | threads | {"GENAI_RUNS": folder},
            capture_output=True,
            text=True,
            cwd=REPOSITORY,
        )
        if done.returncode:
            sys.exit(f"{config}, {way.name}: {done.stderr}")
        content: dict[str, float] = json.loads(result.read_text())
    return content


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", nargs="+", default=["configs/digits/gan.yaml", "configs/digits/diffusion.yaml"])
    parser.add_argument("--by", choices=WAYS, default="process")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=2, help="of the process, by precision (2)")
    parser.add_argument("--batch-size", type=int, default=64, help="images a step, of all processes together (64)")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--way", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    ways = WAYS[options.by]
    if options.write:
        train(options, ways[options.way])
        return
    columns = "images/s", "against the first", "waits for data", "busy", "memory, MiB"
    table = Table("config", "way", *columns, title=f"{options.batch_size} images a step, {options.device}")
    for config in options.configs:
        rounds = [[measure(config, options, i) for i in range(len(ways))] for _ in range(options.rounds)]
        best = [max((measured[i] for measured in rounds), key=lambda result: result["rate"]) for i in range(len(ways))]
        for way, result in zip(ways, best, strict=True):
            table.add_row(config, way.name, *row(result, best[0]["rate"]))
    Console().print(table)


def row(result: dict[str, float], first: float) -> list[str]:
    """The measurements as a row of the table."""
    shares = [f"{100 * result[name]:.1f} %" for name in ("waiting", "busy")]
    return [f"{result['rate']:,.0f}", f"{result['rate'] / first:.2f}", *shares, f"{result['memory']:,.0f}"]


if __name__ == "__main__":
    main()
