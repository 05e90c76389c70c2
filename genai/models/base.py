"""The contract of every model: what training keeps (`Model`) and how images are sampled (`ImageModel`)."""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import Metric

from genai.errors import UserError
from genai.models.conditions import check_condition
from genai.models.ema import Averaged, PowerAveraged
from genai.models.hyperparameters import save_hyperparameters
from genai.models.optimization import has_finite_weights, log_interval, split_batch

Shape = tuple[int, int, int]
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

    def __init__(self, image_shape: Shape, num_classes: int, accumulate: int = 1, compile: bool | str = False) -> None:
        super().__init__()
        if accumulate < 1:
            raise UserError(f"a batch cannot be worked through in {accumulate} parts: set accumulate to 1 or more")
        self.not_plain = save_hyperparameters(self)  # why load_from_checkpoint cannot rebuild this model; mostly empty
        self.image_shape: Shape = (image_shape[0], image_shape[1], image_shape[2])
        self.num_classes = num_classes
        self.accumulate = accumulate
        self.backend = "inductor" if compile is True else compile
        self.images_seen = 0
        self.images_at_update = 0  # images_seen when the averages were last updated
        self.is_exported = False

    def setup(self, stage: str) -> None:
        """Compile the networks, in place: their names in the state dict stay."""
        for network in networks_of(self) if self.backend else ():
            if network not in self.not_compiled:
                network.compile(backend=self.backend)

    # -- automatic optimisation: Lightning calls these around `training_step` ------------------------------------------------

    def count_images(self, num: int) -> None:
        """Add the `num` images of this device's batch, and as many of every other device, to `images_seen`."""
        self.images_seen += num * self.trainer.world_size

    def averages(self) -> Sequence[tuple[Averaged | PowerAveraged, nn.Module]]:
        """Each average with the network that it follows."""
        return [(self.averaged, self.trained_network())]

    def trained_network(self) -> nn.Module:
        """The network that `averaged` follows."""
        raise NotImplementedError

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        """Lightning's hook: `training_step`, backward and the step of the optimiser; then one update of the averages."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.update_averages()

    def update_averages(self) -> None:
        """Move the averages towards their networks, by the images seen since the last update."""
        for average, network in self.averages():
            average.update(network, self.images_seen - self.images_at_update, self.images_seen)
        self.images_at_update = self.images_seen

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Lightning's hook: refuse a gradient that is not finite, then clip as the Trainer's flags say, under FSDP too.

        Raises:
            UserError: the norm of the gradient is infinite or NaN; no weight has changed. A gradient scaler (16-mixed) skips
                such steps itself.
        """
        by_norm = gradient_clip_algorithm in (None, "norm")
        norm = self.shorten_gradient(optimizer, gradient_clip_val if by_norm else None)
        has_scaler = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        if not has_scaler and not bool(norm.isfinite()):
            step = self.trainer.fit_loop.epoch_loop.total_batch_idx + 1
            raise UserError(self.nonfinite_message("the", float(norm), step, "lower the learning rate"))
        if gradient_clip_val is not None and not by_norm:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    # -- optimisation by hand ------------------------------------------------------------------------------------------------

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
        parts = split_batch(self.accumulate, *batch)
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
        self.images_seen = self.images_at_update = checkpoint["images_seen"]

    def on_test_end(self) -> None:
        """Lightning's hook: print what `test_step` logged."""
        values = {name: float(value) for name, value in self.trainer.logged_metrics.items() if name.startswith("test/")}
        if values:
            rank_zero_info("\n".join(f"{name:<28} {value:.4f}" for name, value in values.items()))

    def export_state(self) -> dict[str, Tensor]:
        """The averaged weights alone, named as in `averaged.network`."""
        return self.averaged.network.state_dict()

    def import_state(self, state: Mapping[str, Tensor]) -> None:
        """Load what `export_state` gave. The model can then do what needs the averaged weights only: `is_exported`."""
        self.averaged.network.load_state_dict(state)
        self.is_exported = True


class ImageModel(Model):
    """A generative model of images.

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
    """The outermost modules inside `module` that have a forward method; metrics are not networks."""
    for child in module.children():
        if isinstance(child, Metric):
            continue
        if type(child).forward is nn.Module.forward:
            yield from networks_of(child)
        else:
            yield child
