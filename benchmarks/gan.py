"""Steps per second of every GAN preset, and the cost of the gradient penalties in time and in arithmetic.

    python benchmarks/gan.py [--configs configs/mnist/cluster-r3gan.yaml ...] [--seconds 5] [--rounds 3]
    python benchmarks/gan.py --configs configs/mnist/gan.yaml --precisions 32 bf16-mixed
    python benchmarks/gan.py --configs configs/faces/cluster-r3gan-64.yaml --device cuda

A step is one of the discriminator and, as often as the preset says, one of the generator, on a batch of noise, not images,
in the preset's precision. For objectives with a penalty the same step is timed without it, the two in turn; the last columns
compare the ratio of their times with the ratio of their floating-point operations (torch's counter).
"""

import argparse
import statistics
import time
import warnings
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import softplus
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from genai.models.gan.augmentation import augmented_logits
from genai.models.gan.gan import GAN
from genai.models.gan.latents import generate_images
from genai.models.gan.objectives import AdversarialObjective, Discriminator, Relativistic, WassersteinGP
from genai.training.lightning_cli import GenaiCLI

warnings.filterwarnings("ignore")


class PairingAlone(Relativistic):
    """R3GAN's loss without R1 and R2."""

    def discriminator_loss(
        self, discriminator: Discriminator, real: Tensor, fake: Tensor, images_seen: int, batch: int = 0
    ) -> Tensor:
        return softplus(discriminator(fake) - discriminator(real))


class WassersteinAlone(WassersteinGP):
    """The Wasserstein loss without its penalty."""

    def discriminator_loss(
        self, discriminator: Discriminator, real: Tensor, fake: Tensor, images_seen: int, batch: int = 0
    ) -> Tensor:
        return discriminator(fake) - discriminator(real)


WITHOUT = {Relativistic: PairingAlone, WassersteinGP: WassersteinAlone}


class Flops(TorchDispatchMode):
    """Counts floating-point operations; torch's FlopCounterMode, with less, refuses to be differentiated twice."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        self.total += count(*args, **(kwargs or {}), out_val=output) if count else 0
        return output


class TimedGAN:
    """A model with its optimisers and a batch of noise, trained step by step."""

    def __init__(self, model: GAN, batch_size: int, bf16: bool, device: str) -> None:
        self.model = model.train()
        if model.clusters is not None:
            model.clusters.fit(torch.rand(10 * model.clusters.num_clusters, *model.image_shape) * 2 - 1)
        self.model.to(device)
        self.device = device
        self.generator_optimizer, self.discriminator_optimizer = model.configure_optimizers()
        self.real = torch.rand(batch_size, *model.image_shape, device=device) * 2 - 1
        labels = torch.arange(batch_size, device=device) % max(model.num_classes, 1)
        self.condition = model.layout.condition(self.real, labels)
        self.bf16 = bf16
        self.count = 0

    def step(self, objective: AdversarialObjective) -> None:
        """One batch: the arithmetic of `GAN.training_step`."""
        with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
            self.update(objective)
        self.count += 1

    def update(self, objective: AdversarialObjective) -> None:
        model, condition = self.model, self.condition
        z = torch.randn(len(self.real), model.layout.z_dim, device=self.device)
        generate: Any = model.diversity_loss.generate if model.diversity_loss else generate_images
        fake = generate(model.generator, z, condition)
        discriminator = partial(augmented_logits, model.discriminator, model.augmentation, condition=condition)
        self.discriminator_optimizer.zero_grad()
        objective.discriminator_loss(discriminator, self.real, fake.images.detach(), 0, self.count).mean().backward()
        self.discriminator_optimizer.step()
        if self.count % model.num_discriminator_steps == 0:
            self.generator_optimizer.zero_grad()
            model.discriminator.requires_grad_(False)
            loss = objective.generator_loss(discriminator, self.real, fake.images).mean()
            if model.diversity_loss is not None and condition is not None:
                loss = loss + model.diversity_loss(fake, condition)
            loss.backward()
            model.discriminator.requires_grad_(True)
            self.generator_optimizer.step()

    def now(self) -> float:
        """Seconds, after all kernels have finished."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def seconds(self, objective: AdversarialObjective, at_least: float) -> float:
        """Seconds a step, over `at_least` seconds."""
        start, steps = self.now(), 0
        while self.now() - start < at_least:
            self.step(objective)
            steps += 1
        return (self.now() - start) / steps

    def flops(self, objective: AdversarialObjective, steps: int) -> int:
        """Floating-point operations of `steps` steps, starting with one of both networks and with penalties."""
        self.count = 0
        with Flops() as counter:
            for _ in range(steps):
                self.step(objective)
        return counter.total


def row(config: Path, precision: str | None, seconds: float, rounds: int, device: str) -> list[str] | None:
    """Measurements of one preset in `precision` (None: its own); None if it is not a GAN."""
    cli: Any = GenaiCLI("fit", ["-c", str(config), "--trainer.fast_dev_run", "1", "--evaluation.every_n_epochs", "0"], [])
    if not isinstance(cli.model, GAN):
        return None
    batch_size = cli.datamodule.batch_size
    precision = precision or str(cli.trainer.precision)
    timed = TimedGAN(cli.model, batch_size, "bf16" in precision, device)
    full = cli.model.objective
    bare_class: Any = WITHOUT.get(type(full))
    timed.seconds(full, seconds / 5)
    cells = [str(config.relative_to(config.parent.parent).with_suffix("")), str(batch_size), precision]
    if bare_class is None:
        step = statistics.median(timed.seconds(full, seconds) for _ in range(rounds))
        return [*cells, f"{1 / step:.1f}", f"{batch_size / step:.0f}", "", "", ""]
    bare = bare_class()
    pairs = [(timed.seconds(full, seconds), timed.seconds(bare, seconds)) for _ in range(rounds)]
    step = statistics.median(one for one, _ in pairs)
    ratio = statistics.median(one / other for one, other in pairs)
    period = cli.model.num_discriminator_steps * getattr(full, "penalise_every", 1)
    arithmetic = timed.flops(full, period) / timed.flops(bare, period)
    share = f"{100 * (1 - 1 / ratio):.0f} %"
    return [*cells, f"{1 / step:.1f}", f"{batch_size / step:.0f}", share, f"{ratio:.2f}", f"{arithmetic:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--configs", nargs="*", type=Path, default=sorted(Path("configs").glob("*/*.yaml")))
    parser.add_argument("--precisions", nargs="*", default=[None])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    table = Table("preset", "batch", "precision", "steps/s", "images/s", "penalty's share", "time ×", "arithmetic ×")
    presets = [config for config in options.configs if config.parent.name not in ("sweeps", "trainer")]
    for config, precision in product(presets, options.precisions):
        cells = row(config, precision, options.seconds, options.rounds, options.device)
        if cells:
            table.add_row(*cells)
    where = torch.cuda.get_device_name() if options.device == "cuda" else f"{torch.get_num_threads()} threads"
    table.caption = f"{where}; time and arithmetic: the step with its penalty over the step without"
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
