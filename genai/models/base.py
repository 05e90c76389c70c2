"""The contract of every model: what training keeps (`Model`) and what a generative model can do (`GenerativeModel`)."""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import lightning as L
import torch
from lightning.pytorch.cli import instantiate_class
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy
from torch import Tensor, nn
from torch.optim import Optimizer

from genai.errors import UserError
from genai.models.ema import Averaged
from genai.networks.conditioning import as_vector

Shape = tuple[int, int, int]
GOLDEN = 0x9E3779B1  # odd, and 2**32 / 1.618 to nine digits
NetworkFactory = Callable[[Shape, int], nn.Module]


class Model(L.LightningModule):
    """What every model of the suite keeps: its shapes, the images it has seen and how it is logged.

    Args:
        image_shape: (C, H, W) of the images, linked from the data.
        num_classes: width of the condition vector (classes or attributes), linked from the data; 0 without labels.
        accumulate: parts that a batch is worked through in, for less memory; the step is that of the whole batch.
        compile: have torch.compile make the networks faster after a slow first step; or the name of one of its backends.
    """

    averaged: Averaged
    not_compiled: tuple[nn.Module | None, ...] = ()
    overrides: Sequence[str] = ()  # options of `genai test` that say other things of the model than its run's config

    def __init__(self, image_shape: Shape, num_classes: int, accumulate: int = 1, compile: bool | str = False) -> None:
        super().__init__()
        if accumulate < 1:
            raise UserError(f"a batch cannot be worked through in {accumulate} parts: set accumulate to 1 or more")
        self.image_shape: Shape = (image_shape[0], image_shape[1], image_shape[2])
        self.num_classes = num_classes
        self.accumulate = accumulate
        self.backend = "inductor" if compile is True else compile
        self.images_seen = 0
        self.is_exported = False

    def setup(self, stage: str) -> None:
        """Compile the networks, in place: their names in the state dict stay."""
        for network in networks_of(self) if self.backend else ():
            if network not in self.not_compiled:
                network.compile(backend=self.backend)

    def descend(self, optimizer: Any, loss: Callable[..., Tensor], *batch: Tensor | None) -> Tensor:
        """One step of `optimizer` on the batch: see `accumulate_gradient`. Sets and returns the loss."""
        optimizer.zero_grad()
        self.loss_now = self.accumulate_gradient(loss, *batch)
        optimizer.step()
        return self.loss_now

    def accumulate_gradient(self, loss: Callable[..., Tensor], *batch: Tensor | None) -> Tensor:
        """Add the gradient of the mean loss of the batch, part after part, each freed before the next.

        Returns the mean loss over the batches of all devices, so that all judge it alike.

        Args:
            loss: (part of each tensor of the batch) -> losses of the part's images (n,).
            batch: tensors (N, ...), the first of them not None.
        """
        parts = split(self.accumulate, *batch)
        num_images = sum(len(part[0]) for part in parts)
        total = torch.zeros((), device=self.device)
        for i, part in enumerate(parts):
            share = loss(*part).sum() / num_images
            with self.within_device() if i + 1 < len(parts) else nullcontext():
                self.manual_backward(share)
            total += share.detach()
        mean: Tensor = self.trainer.strategy.reduce(total, reduce_op="mean")
        return mean

    def within_device(self) -> AbstractContextManager[None]:
        """Where gradients are added up on each device; the last part's backward pass shares the sum with the others."""
        strategy = self.trainer.strategy
        return strategy.block_backward_sync() if isinstance(strategy, DDPStrategy) else nullcontext()

    def advance(self, batch_images: int) -> int:
        """Count a batch of `batch_images` on this device; returns the images all devices saw in this step."""
        images = batch_images * self.trainer.world_size
        self.images_seen += images
        return images

    def set_learning_rates(self, optimizers: Sequence[Any], schedule: Callable[[int], float] | None) -> None:
        """Scale each optimiser's initial learning rate by `schedule(images_seen)`."""
        if schedule is None:
            return
        factor = schedule(self.images_seen)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor

    def track(self, metrics: Mapping[str, Tensor | float]) -> None:
        """Send training metrics, means over the devices, to every logger at `images_seen`, each `log_every_n_steps` batches."""
        if self.trainer.fit_loop.epoch_loop.batch_idx % log_interval(self.trainer):
            return
        values = {name: self.mean_over_devices(value) for name, value in metrics.items()}
        for name, value in values.items():
            self.log(name.split("/")[-1], value, prog_bar="loss" in name, logger=False, rank_zero_only=True)
        for logger in self.loggers:
            logger.log_metrics(values, step=self.images_seen)

    def mean_over_devices(self, value: Tensor | float) -> float:
        """The mean of what each device measured; a plain number is the same on all."""
        return float(self.trainer.strategy.reduce(value.clone(), reduce_op="mean") if isinstance(value, Tensor) else value)

    def nonfinite_message(self, whose: str, loss: float, step: int, advice: str) -> str:
        """Where the run stopped, and what it can go on from."""
        folders = [Path(callback.dirpath) for callback in self.trainer.checkpoint_callbacks if callback.dirpath]  # type: ignore[attr-defined]
        paths = [folder / name for name in ("last.ckpt", "best.ckpt") for folder in folders]
        good = next((path for path in paths if path.is_file() and has_finite_weights(path)), None)
        return (
            f"{whose} loss or gradient is not finite (loss {loss}) in step {step}, after {self.images_seen} images; "
            f"last good checkpoint: {good or 'none yet'}; {advice}"
        )

    def limit_gradients(self, optimizer: Optimizer, loss: Tensor, max_norm: float | None) -> None:
        """Shorten a long gradient; for `on_before_optimizer_step`, when a gradient scaler (16-mixed) has undone its scaling.

        Raises:
            UserError: the loss or the gradient is not finite; no weight has changed. A gradient scaler skips such steps.
        """
        norm = self.shorten_gradient(optimizer, max_norm)
        has_scaler = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        if not has_scaler and not bool((norm + loss).isfinite()):
            step = self.trainer.fit_loop.epoch_loop.total_batch_idx + 1
            raise UserError(self.nonfinite_message("the", float(loss), step, "lower the learning rate"))

    def shorten_gradient(self, optimizer: Optimizer, max_norm: float | None) -> Tensor:
        """Scale the gradient of all that `optimizer` trains to `max_norm` where it is longer; returns the norm before."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if isinstance(self.trainer.strategy, FSDPStrategy):  # each device has a share of every gradient
            norm = self.trainer.strategy.reduce(norm.square(), reduce_op="sum").sqrt()
        torch.nn.utils.clip_grads_with_norm_(parameters, max_norm or math.inf, norm)
        return norm

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["images_seen"] = self.images_seen

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.images_seen = checkpoint["images_seen"]

    def export_state(self) -> dict[str, Tensor]:
        """The averaged weights alone, named as in `averaged.network`."""
        return self.averaged.network.state_dict()

    def import_state(self, state: Mapping[str, Tensor]) -> None:
        """Load what `export_state` gave. The model can then do what needs the averaged weights only: `is_exported`."""
        self.averaged.network.load_state_dict(state)
        self.is_exported = True


class GenerativeModel(Model):
    """A model that draws images.

    `conditional` says whether `sample` takes a condition: (N,) int64 classes, (N, num_classes) float attributes or (N, L)
    int64 words, 0 for padding.
    """

    conditional: bool = False
    sample_chunk: int = 64

    @abstractmethod
    def generate(self, seeds: Sequence[int], condition: Tensor | None, **options: Any) -> Tensor:
        """Draw one image per seed: (len(seeds), C, H, W) in [-1, 1]; each depends on its own seed and condition only."""

    @torch.no_grad()
    def sample(self, seeds: Sequence[int], condition: Tensor | None = None, **options: Any) -> Tensor:
        """Draw one image per seed with the averaged weights.

        Image i depends on `seeds[i]` and `condition[i]` only. Matrix kernels may round differently for another number of
        rows, so the network always sees chunks of `sample_chunk` images, the last one padded.

        Args:
            seeds: N integers in [0, 2**63).
            condition: (N,) int64 classes, (N, num_classes) float attributes or (N, L) int64 words; None for an unconditional
                model.
            options: of the family; a tensor among them has one row for each seed.

        Returns:
            (N, C, H, W) float32 in [-1, 1], on the model's device.

        Raises:
            ValueError: a condition is missing, not wanted, or of another length than the seeds.
        """
        check_condition(self.conditional, self.num_classes, condition, len(seeds))
        images = []
        for start in range(0, len(seeds), self.sample_chunk):
            rows = [min(i, len(seeds) - 1) for i in range(start, start + self.sample_chunk)]
            part = None if condition is None else condition[rows].to(self.device)
            own = {name: v[rows].to(self.device) if isinstance(v, Tensor) else v for name, v in options.items()}
            drawn = self.generate([int(seeds[i]) for i in rows], part, **own)
            images.append(drawn[: len(seeds) - start].float())
        return torch.cat(images) if images else torch.empty(0, *self.image_shape, device=self.device)

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """One image for each of the batch, of its label where the model is conditional: (N, C, H, W) in [-1, 1]."""
        seeds = [batch_idx * 2**20 + i for i in range(len(batch[0]))]
        return self.sample(seeds, batch[1] if self.conditional else None).cpu()


def networks_of(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost modules inside of `module` that are called by themselves."""
    for child in module.children():
        if type(child).forward is nn.Module.forward:
            yield from networks_of(child)
        else:
            yield child


def split(num_parts: int, *batch: Tensor | None) -> list[tuple[Any, ...]]:
    """Tensors (N, ...) or None -> the same in `num_parts` nearly equal parts, fewer where N is less."""
    if num_parts == 1:
        return [batch]
    (size,) = {len(tensor) for tensor in batch if tensor is not None}
    num_parts = min(num_parts, size)
    columns = [num_parts * [None] if tensor is None else tensor.tensor_split(num_parts) for tensor in batch]
    return list(zip(*columns, strict=True))


def has_finite_weights(path: Path) -> bool:
    """Whether no weight of the checkpoint at `path` is infinite or NaN."""
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    return all(bool(weight.isfinite().all()) for weight in state.values())


def log_interval(trainer: L.Trainer) -> int:
    """The trainer's `log_every_n_steps`, which Lightning sets where a type checker cannot see it."""
    return int(trainer.log_every_n_steps)  # type: ignore[attr-defined]


def check_condition(conditional: bool, num_classes: int, condition: Tensor | None, num_seeds: int) -> None:
    """Raise ValueError unless `condition` fits the model and the number of seeds."""
    if conditional and condition is None:
        raise ValueError(f"this model is conditional: give a condition, one of {num_classes} classes for each seed")
    if not conditional and condition is not None:
        raise ValueError("this model is unconditional: it takes no condition")
    if condition is not None and len(condition) != num_seeds:
        raise ValueError(f"{num_seeds} seeds but {len(condition)} conditions: give one condition for each seed")


def image_seeds(seed: int, num: int) -> list[int]:
    """Seeds of `num` images under a user's seed in [0, 2**31): seed * 2**32 + i, so that no two share an image."""
    return [seed * 2**32 + i for i in range(num)]


def seeded_noise(seeds: Sequence[int], shape: Sequence[int], device: torch.device) -> Tensor:
    """Standard normal noise (len(seeds), *shape): row i is a function of `seeds[i]` alone, the same on every device."""
    rows = [torch.randn(tuple(shape), generator=seeded_generator(seed)) for seed in seeds]
    return torch.stack(rows).to(device)


def seeded_generator(seed: int) -> torch.Generator:
    """A generator on the CPU for a seed in [0, 2**63), all of which count.

    torch's own takes the lower 32 bits alone. The upper ones shift these by multiples of the golden ratio's share of 2**32,
    which keeps the images of two user's seeds that differ by d, up to a million, 2**32 / (8 d) apart; seeds below 2**32 stay.
    """
    high, low = divmod(seed, 2**32)
    return torch.Generator().manual_seed((low + high * GOLDEN) % 2**32)


class SeededNoise:
    """Normal noise (N, *shape) at each call; row i is a function of `seeds[i]` and the number of the call alone.

    Args:
        seeds: N integers in [0, 2**63).
        shape: of one row.
        device: where the noise goes; it is drawn on the CPU, so it is the same on every device.
    """

    def __init__(self, seeds: Sequence[int], shape: Sequence[int], device: torch.device) -> None:
        self.generators = [seeded_generator(seed) for seed in seeds]
        self.shape = tuple(shape)
        self.device = device

    def __call__(self, shape: Sequence[int] | None = None) -> Tensor:
        """The next noise, of `shape` in the place of the usual one if given."""
        size = self.shape if shape is None else tuple(shape)
        return torch.stack([torch.randn(size, generator=generator) for generator in self.generators]).to(self.device)


def condition_vector(condition: Tensor, num_classes: int) -> Tensor:
    """(N,) classes or (N, K) attributes -> (N, num_classes) float32: one-hot classes, attributes as they are."""
    if condition.ndim == 1:
        return torch.nn.functional.one_hot(condition, num_classes).float()
    return as_vector(condition).float()


def told_of(labels: Tensor, num_classes: int) -> Tensor:
    """What a network is told of labels: one-hot classes, attributes of -1 and 1, words as they are; zeros say nothing.

    Args:
        labels: (N,) int64 classes, (N, K) float attributes of 0 and 1, or (N, L) int64 words. A class of -1, attributes of
            1/2 and words of 0 say nothing.
        num_classes: how many classes there are.
    """
    if labels.ndim == 1:
        return condition_vector(labels.clamp(min=0), num_classes) * (labels >= 0)[:, None]
    return 2 * labels - 1 if labels.is_floating_point() else labels


def dropped(told: Tensor | None, share: float) -> Tensor | None:
    """`told` with a random `share` of its rows set to zero."""
    if told is None or not share:
        return told
    keep = torch.rand(len(told), device=told.device) >= share
    return told * keep.view(-1, *[1] * (told.ndim - 1))


def build_optimizer(factory: Callable[..., Optimizer] | dict[str, Any], network: nn.Module) -> Optimizer:
    """The optimiser of `network`, its learning rate kept as `initial_lr` for schedules.

    A model built in Python, not by the command line, has its default as a dict of class_path and init_args.
    """
    parameters = network.parameters()
    optimizer: Optimizer = instantiate_class(parameters, factory) if isinstance(factory, dict) else factory(parameters)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


@runtime_checkable
class Believes(Protocol):
    """A model that says how real an image looks."""

    def belief(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        """Probability of being real (N,) in [0, 1] for images (N, C, H, W) in [-1, 1]."""


@runtime_checkable
class Classifies(Protocol):
    """A model that tells classes apart."""

    def predict(self, images: Tensor) -> Tensor:
        """Probabilities (N, num_classes) for images (N, C, H, W), uint8 or float in [-1, 1]."""


@runtime_checkable
class Stepwise(Protocol):
    """A model that draws in steps; `sample` takes the fields of `sampling` as options."""

    sampling: Any


@runtime_checkable
class Resamples(Protocol):
    """A model that can draw several images for a seed and keep one; `sample` takes their `num_candidates` as an option."""

    resampling: Any


@runtime_checkable
class Starts(Protocol):
    """A model whose training can begin with the weights of another run."""

    def start_from(self, state: Mapping[str, Tensor]) -> None:
        """Take what `export_state` of the other model gave; RuntimeError where its network is another one."""


@runtime_checkable
class Varies(Protocol):
    """A model that draws variations of an image."""

    def vary(
        self, images: Tensor, seeds: Sequence[int], strength: float, condition: Tensor | None = None, **settings: Any
    ) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] -> variations of them, the input itself for strength 0."""


@runtime_checkable
class Restores(Protocol):
    """A model that fills in what is missing of an image."""

    def restore(
        self, images: Tensor, mask: Tensor, seeds: Sequence[int], condition: Tensor | None = None, **settings: Any
    ) -> Tensor:
        """Images (N, C, H, W) in [-1, 1], filled in where `mask` (N, 1, H, W) is 1 -> (N, C, H, W)."""


@runtime_checkable
class Upscales(Protocol):
    """A model that draws images from smaller ones."""

    def upscale(self, small: Tensor, seeds: Sequence[int], condition: Tensor | None = None, **settings: Any) -> Tensor:
        """Images (N, C, H / f, W / f) in [-1, 1] -> (N, C, H, W)."""


@runtime_checkable
class Reconstructs(Protocol):
    """A model that draws an image again from its code."""

    def reconstruct(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] -> the same from their codes, (N, C, H, W), without chance."""


@runtime_checkable
class Decodes(Protocol):
    """A model that draws an image from a latent vector."""

    def latents(self, seeds: Sequence[int]) -> Tensor:
        """The latents (len(seeds), D) of which `sample` draws."""

    def decode(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Latents (N, D) -> images (N, C, H, W) in [-1, 1]."""


@runtime_checkable
class Encodes(Decodes, Protocol):
    """A model that also finds the latent vector of an image."""

    def encode(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] -> latents (N, D), without chance."""


@runtime_checkable
class Bounds(Protocol):
    """A model with a lower bound of its likelihood, by importance sampling."""

    def log_likelihood(self, images: Tensor, seeds: Sequence[int], num_samples: int, condition: Tensor | None = None) -> Tensor:
        """Bound of ln p(x) in nats, summed over pixels, (N,) float64; tighter with more samples."""


@runtime_checkable
class CountsBits(Protocol):
    """A model with a density."""

    def bits_per_dim(self, images: Tensor, seeds: Sequence[int], condition: Tensor | None = None, steps: int = 50) -> Tensor:
        """Bits per dimension (N,) of uint8 images given as (N, C, H, W) in [-1, 1]."""


@runtime_checkable
class Diffuses(Protocol):
    """A model whose forward and reverse process can be watched."""

    def dissolve(self, images: Tensor, seeds: Sequence[int], num_levels: int) -> Tensor:
        """Images (N, C, H, W) -> the same with more and more noise, (num_levels, N, C, H, W), each about within [-1, 1]."""

    def emerge(self, seeds: Sequence[int], condition: Tensor | None = None, **settings: Any) -> Tensor:
        """What `sample` passes through, from noise to the images: (steps + 1, N, C, H, W), each about within [-1, 1]."""
