"""Speed of training on a GPU: presets through Lightning against a bare loop of the same networks and losses, in one run.

    python benchmarks/gpu.py [--minutes 8] [--out gpu.json] [--steps N] [--device cpu] [--eager] [--narrow]

For each case: images (or tokens) per second of both, their ratio, the share of time in which the GPU computes, and the peak
memory. 64-pixel presets are measured in bfloat16 as they are, with `--model.init_args.compile true`, and with weights and
activations that are not channels-last; small presets as they are and compiled. The bare loop has the same networks, losses,
optimisers, clipping and averaged weights, all its batches lie on the GPU, and it logs nothing. The images are noise: the speed
does not depend on what they show. Results are written after each case; cases that do not fit into the time are left out, and
named. On a processor it runs too, as a test of itself.

With `--narrow` the networks have 8 channels, batches 2 images and a step hardly anything to compute, on any device: what
remains is the Python of both loops, in milliseconds per step (`--device cpu --eager --narrow`).
"""

import argparse
import json
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import lightning as L
import numpy as np
import torch
import yaml
from overhead import Clock
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from genai.data.module import DataModule
from genai.data.npz import Npz
from genai.data.pydocs import PyDocs
from genai.models.gan.augmentation import augmented_logits
from genai.models.gan.gan import GAN
from genai.models.gan.latents import generate_images
from genai.runs.loading import build_model
from genai.shipped import config_path
from genai.training.callbacks.axis import ImagesSeenAxis
from genai.training.callbacks.cost import name_of, peak_memory
from genai.training.callbacks.randomness import SeedEachBatch
from genai.training.callbacks.throughput import Throughput
from genai.training.loggers import MetricsCSV

NUM_IMAGES = 8192
NUM_CLASSES = 10
PROFILED_STEPS = 5


class Case(NamedTuple):
    """A preset at one image size, and how it runs."""

    preset: str
    side: int  # of the images; 0 for text
    channels: int = 3
    compile: bool = False
    channels_last: bool = True

    @property
    def variant(self) -> str:
        return ("compiled" if self.compile else "default") + ("" if self.channels_last else ", without channels-last")


LARGE = [("avatars/cr3gan-64", 64), ("faces/cluster-r3gan-64", 64), ("faces/diffusion", 64)]
SMALL = [("mnist/gan", 28, 1), ("mnist/diffusion", 28, 1), ("mnist/vae", 28, 1), ("pydocs/gpt", 0)]
CASES = [
    *(Case(*preset) for preset in (*LARGE, *SMALL)),
    *(Case(*preset, channels_last=False) for preset in LARGE),
    *(Case(*preset, compile=True) for preset in (*LARGE, *SMALL)),
]


class Measured(NamedTuple):
    """Seconds per step, share of them in which the GPU computes (None without one), bytes of memory at most."""

    seconds: float
    busy: float | None
    memory: int


class Stopwatch:
    """Times steps after some that warm up, then profiles a few more; `tick` is called after every step."""

    def __init__(self, device: torch.device, warmup: int, steps: int, clock: Clock = time.perf_counter) -> None:
        self.device, self.warmup, self.steps, self.clock = device, warmup, steps, clock
        self.total = warmup + steps + (PROFILED_STEPS if device.type == "cuda" else 0)
        self.count = 0
        self.seconds = self.kernels = 0.0

    def now(self) -> float:
        """The time when the device has finished everything so far."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return self.clock()

    def tick(self) -> None:
        """One step has ended."""
        self.count += 1
        if self.count == self.warmup:
            self.start = self.now()
        elif self.count == self.warmup + self.steps:
            self.seconds = (self.now() - self.start) / self.steps
            if self.device.type == "cuda":
                self.profiler = profile(activities=[ProfilerActivity.CUDA])
                self.profiler.start()
        elif self.count == self.total:
            self.now()
            self.profiler.stop()
            self.kernels = sum(event.self_device_time_total for event in self.profiler.key_averages()) / 1e6 / PROFILED_STEPS

    def result(self) -> Measured:
        busy = min(self.kernels / self.seconds, 1.0) if self.device.type == "cuda" else None
        return Measured(self.seconds, busy, peak_memory(self.device))


class Ticking(L.Callback):
    """Tells a stopwatch of each step of a Trainer."""

    def __init__(self, stopwatch: Stopwatch) -> None:
        self.stopwatch = stopwatch

    def on_train_batch_end(self, *args: Any) -> None:
        self.stopwatch.tick()


def through_lightning(model: L.LightningModule, data: DataModule, stopwatch: Stopwatch, clip: float | None) -> Measured:
    """Steps through the Trainer, with the callbacks and the CSV that `genai fit` adds."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            accelerator="gpu" if stopwatch.device.type == "cuda" else "cpu",
            devices=1,
            precision="bf16-mixed",
            max_epochs=-1,
            max_steps=stopwatch.total,
            limit_val_batches=0,
            gradient_clip_val=clip,
            logger=MetricsCSV(Path(folder)),
            callbacks=[ImagesSeenAxis(), SeedEachBatch(0), Throughput(), Ticking(stopwatch)],
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
        )
        trainer.fit(model, datamodule=data)
    return stopwatch.result()


def bare(model: Any, data: DataModule, stopwatch: Stopwatch, clip: float | None) -> Measured:
    """The same steps in a loop without Lightning, over batches that lie on the device."""
    batches = on_device(model, data, stopwatch.device)
    model.setup("fit")
    step = gan_step(model, batches) if isinstance(model, GAN) else plain_step(model, clip)
    for i in range(stopwatch.total):
        with torch.autocast(stopwatch.device.type, torch.bfloat16):
            step(batches[i % len(batches)], i)
        stopwatch.tick()
    return stopwatch.result()


def on_device(model: L.LightningModule, data: DataModule, device: torch.device) -> list[Any]:
    """The first 8 training batches, as a training step receives them."""
    batches = []
    for batch in data.train_dataloader():
        moved = data.transfer_batch_to_device(batch, device, 0)
        batches.append(data.on_after_batch_transfer(moved, 0))
        if len(batches) == 8:
            return batches
    return batches


def plain_step(model: Any, clip: float | None) -> Callable[[Any, int], None]:
    """A step of a model with one optimiser."""
    found = model.configure_optimizers()
    is_scheduled = isinstance(found, dict)
    optimizer = found["optimizer"] if is_scheduled else found
    scheduler = found["lr_scheduler"]["scheduler"] if is_scheduled else None
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    model.count_images = lambda num: setattr(model, "images_seen", model.images_seen + num)

    def step(batch: Any, i: int) -> None:
        optimizer.zero_grad()
        model.training_step(batch, i).backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        model.update_averages()

    return step


def gan_step(model: GAN, batches: list[Any]) -> Callable[[Any, int], None]:
    """A discriminator step and a generator step, written by hand."""
    if model.clusters is not None:
        model.clusters.fit(torch.cat([images for images, _ in batches]))
    g_optimizer, d_optimizer = model.configure_optimizers()
    generate = partial(model.diversity_loss.generate if model.diversity_loss else generate_images, model.generator)

    def step(batch: tuple[Tensor, Tensor], i: int) -> None:
        real, labels = batch
        condition = model.layout.condition(real, labels)
        generated = generate(torch.randn(len(real), model.layout.z_dim, device=real.device), condition)
        logits = partial(augmented_logits, model.discriminator, model.augmentation, condition=condition)
        d_optimizer.zero_grad()
        model.objective.discriminator_loss(logits, real, generated.images.detach(), model.images_seen, i).mean().backward()
        d_optimizer.step()
        model.discriminator.requires_grad_(False)
        g_optimizer.zero_grad()
        loss = model.objective.generator_loss(logits, real, generated.images)
        (loss + model.diversity_loss(generated, condition) if model.diversity_loss else loss).mean().backward()
        model.discriminator.requires_grad_(True)
        g_optimizer.step()
        model.images_seen += len(real)
        model.update_averages()

    return step


@contextmanager
def memory_format(channels_last: bool) -> Iterator[None]:
    """Networks are made and run with channels-last weights, or with the default order."""
    with nullcontext() if channels_last else mock.patch.object(torch, "channels_last", torch.contiguous_format):
        yield


NARROW = {"embedding_dim": 16, "group_size": 8, "dim": 16, "num_heads": 2, "batch_size": 2, "num_clusters": 4}


def narrowed(config: Any, side: int) -> Any:
    """A config with as many layers of 8 channels, large patches, and batches of 2."""
    if not isinstance(config, dict):
        return config
    found = {name: NARROW.get(name, narrowed(value, side)) for name, value in config.items()}
    for name in {"channels", "mapping", "hidden"} & config.keys():
        found[name] = [8] * len(config[name]) if isinstance(config[name], list) else 8
    return found | ({"patch_size": side // 8 if side == 64 else side // 4} if "patch_size" in config else {})


def measure(case: Case, device: torch.device, steps: int, folder: Path, narrow: bool = False) -> dict[str, Any]:
    """The results of one case, as they are written."""
    config = yaml.safe_load(Path(config_path(case.preset)).read_text())
    config = narrowed(config, case.side) if narrow else config
    options = config["data"]["init_args"]
    data: DataModule
    if case.side:
        data = Npz(str(noise(folder, case.channels, case.side)), batch_size=options["batch_size"])
        record: dict[str, Any] = {"image_shape": list(data.image_shape), "num_classes": NUM_CLASSES}
        per_step = options["batch_size"]
    else:
        data = PyDocs(**options)
        record = {"vocab_size": data.vocab_size, "context_length": options["context_length"]}
        per_step = options["batch_size"] * options["context_length"]
    data.prepare_data()
    config["model"]["init_args"]["compile"] = case.compile
    clip = config["trainer"].get("gradient_clip_val")
    warmup = max(steps // 10, 1)
    found = {}
    for name, loop in (("bare", bare), ("genai", through_lightning)):
        torch.manual_seed(0)
        torch.compiler.reset()
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        with memory_format(case.channels_last):
            model = build_model(config, record).to(device).train()
            found[name] = loop(model, data, Stopwatch(device, warmup, steps), clip)
    return {
        "preset": case.preset,
        "side": case.side,
        "variant": case.variant,
        "batch_size": options["batch_size"],
        "unit": "images" if case.side else "tokens",
        **{f"{name}_per_second": round(per_step / one.seconds, 1) for name, one in found.items()},
        "ratio": round(found["bare"].seconds / found["genai"].seconds, 3),
        **{f"{name}_milliseconds": round(1000 * one.seconds, 3) for name, one in found.items()},
        "busy": found["genai"].busy,
        "peak_memory": found["genai"].memory,
    }


def noise(folder: Path, channels: int, side: int) -> Path:
    """An .npz file of noise images with classes, made once."""
    path = folder / f"noise-{channels}-{side}.npz"
    if not path.exists():
        random = np.random.default_rng(0)
        images = random.integers(0, 256, (NUM_IMAGES, side, side, channels), dtype=np.uint8)
        np.savez(path, images=images, labels=np.arange(NUM_IMAGES) % NUM_CLASSES)
    return path


def show(results: dict[str, Any]) -> None:
    """The results as a table."""
    columns = ("preset", "pixels", "variant", "bare, /s", "genai, /s", "ratio", "bare, ms", "genai, ms", "busy", "GB")
    table = Table(*columns, title=results["device"])
    for row in results["cases"]:
        busy = "" if row["busy"] is None else f"{row['busy']:.0%}"
        speeds = f"{row['bare_per_second']:,.0f}", f"{row['genai_per_second']:,.0f}", f"{row['ratio']:.3f}"
        times = f"{row['bare_milliseconds']:.2f}", f"{row['genai_milliseconds']:.2f}"
        memory = f"{row['peak_memory'] / 1e9:.2f}"
        table.add_row(row["preset"], str(row["side"] or "text"), row["variant"], *speeds, *times, busy, memory)
    Console(width=120).print(table)
    for name in ("failed", "left_out"):
        if results[name]:
            print(f"{name.replace('_', ' ')}: {'; '.join(results[name])}")


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8.0, help="no case starts after this time (8)")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="results, written after each case (gpu.json)")
    parser.add_argument("--steps", type=int, help="timed steps of each loop (100 of 64-pixel presets, 400 of small ones)")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="(cuda)")
    parser.add_argument("--preset", help="only this preset")
    parser.add_argument("--eager", action="store_true", help="nothing compiled")
    parser.add_argument("--narrow", action="store_true", help="tiny networks and batches: the time of Python alone")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU here: use --device cpu --steps 2 to test the script")
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    device = torch.device(options.device, 0) if options.device == "cuda" else torch.device("cpu")
    results: dict[str, Any] = {"device": name_of(device), "torch": torch.__version__, "lightning": L.__version__}
    results |= {"cases": [], "failed": [], "left_out": []}
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            title = f"{case.preset} {case.variant}"
            if options.preset not in (None, case.preset) or (options.eager and case.compile):
                continue
            if time.monotonic() - start > 60 * options.minutes:
                results["left_out"].append(title)
                continue
            try:
                steps = options.steps or (100 if case.side == 64 else 400)
                results["cases"].append(measure(case, device, steps, Path(folder), options.narrow))
            except Exception as error:  # the other cases are measured all the same
                results["failed"].append(f"{title}: {type(error).__name__}: {str(error)[:200]}")
            options.out.write_text(json.dumps(results, indent=1))
            print(f"{time.monotonic() - start:6.1f} s  {title}", flush=True)
    show(results)


if __name__ == "__main__":
    main()
