"""The base classes of every model: training (`Model`), images (`VisionModel`) and sampling of images (`ImageModel`)."""

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import Metric

from genai.images import check_number
from genai.models.conditions import check_condition, encode_labels
from genai.models.ema import Averaged, PowerAveraged
from genai.models.hyperparameters import save_hyperparameters
from genai.models.optimization import clip_gradient_norm, nonfinite_error
from genai.models.step_log import StepLog, is_written

Shape = tuple[int, int, int]
NetworkFactory = Callable[[Shape, int], nn.Module]
IMAGE_SIZES = ("image_shape", "num_classes")  # that a model of images takes from its data
TEXT_SIZES = ("vocab_size", "context_length")  # that a text model takes from its data


class Model(L.LightningModule):
    """The base of every model: the number of images or tokens seen and its averaged weights.

    A model with one optimiser uses Lightning's automatic optimisation. Its `training_step` calls `count_images`, logs with
    `self.step_log.record` (or with `self.log`, which costs more) and returns the loss; the averages are updated after each
    step of the optimiser.

    Args:
        compile: compile the networks with torch.compile; or the name of one of its backends.

    Attributes:
        unit: what `images_seen` counts: images, or tokens of a text model.
    """

    unit: str = "images"
    is_fitted_once: bool = False  # whether more epochs would make it worse
    requires_init_from: bool = False  # whether a fit has to begin with the weights of another run
    verbs_with_reward: tuple[str, ...] = ()  # verbs that compute the reward of a model that has one
    averaged: Averaged
    not_compiled: tuple[nn.Module | None, ...] = ()
    val_metrics: tuple[str, ...] | None = None
    """What `validation_step` logs as val/NAME; None where a model does not say."""

    def __init__(self, compile: bool | str = False) -> None:
        super().__init__()
        self.hparams_error = save_hyperparameters(self)  # why load_from_checkpoint cannot rebuild this model; usually empty
        self.backend = "inductor" if compile is True else compile
        self.step_log = StepLog()
        self.images_seen = 0
        self.images_at_update = 0  # images_seen when the averages were last updated
        self.is_exported = False

    def __deepcopy__(self, memo: dict[int, Any]) -> "Model":
        """A copy without its Trainer that shares the factories of optimisers; Lightning's averaging callbacks copy a model.

        A factory from the command line refers to the parser, which cannot be copied.
        """
        memo |= {id(value): value for value in vars(self).values() if isinstance(value, partial)}
        copied = memo[id(self)] = type(self).__new__(type(self))
        copied.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return copied

    def setup(self, stage: str) -> None:
        """Lightning's hook: compile the networks, in place, so their names in the state dict stay."""
        for network in networks_of(self) if self.backend else ():
            if network not in self.not_compiled:
                network.compile(backend=self.backend)

    def count_images(self, num: int) -> None:
        """Add the `num` images (or tokens) of this device's batch, and as many of every other device, to `images_seen`."""
        self.images_seen += num * self.trainer.world_size

    def averages(self) -> Sequence[tuple[Averaged | PowerAveraged, nn.Module]]:
        """Each average with the network that it follows; none for a model without `averaged`."""
        return [(self.averaged, self.trained_network())] if hasattr(self, "averaged") else []

    def trained_network(self) -> nn.Module:
        """The network that `averaged` follows."""
        raise NotImplementedError

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        """Lightning's hook: `training_step`, backward and the step of the optimiser; then one update of the averages."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.step_log.record({"train/lr": optimizer.param_groups[0]["lr"]})
        self.update_averages()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Lightning's hook: log what the step recorded, in the steps whose values are written."""
        if is_written(self.trainer):
            self.step_log.write(self)
        self.step_log.values.clear()

    def update_averages(self) -> None:
        """Move the averages towards their networks, by the images seen since the last update."""
        for average, network in self.averages():
            average.update(network, self.images_seen - self.images_at_update, self.images_seen)
        self.images_at_update = self.images_seen

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Lightning's hook: refuse a non-finite gradient, then clip as the Trainer's flags say, under FSDP too.

        Raises:
            UserError: the norm of the gradient is infinite or NaN; no weight has changed. A gradient scaler (16-mixed) skips
                such steps itself.
        """
        by_norm = gradient_clip_algorithm in (None, "norm")
        norm = clip_gradient_norm(self.trainer.strategy, optimizer, gradient_clip_val if by_norm else None)
        has_scaler = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        if not has_scaler and not bool(norm.isfinite()):
            step = self.trainer.fit_loop.epoch_loop.total_batch_idx + 1
            raise nonfinite_error(
                self.trainer, f"the gradient is not finite (its norm is {float(norm)})", step, "lower the learning rate"
            )
        if gradient_clip_val is not None and not by_norm:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Lightning's hook: keep the images seen."""
        checkpoint["images_seen"] = self.images_seen

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Lightning's hook: restore the images seen."""
        self.images_seen = self.images_at_update = checkpoint["images_seen"]

    def export_state(self) -> dict[str, Tensor]:
        """The averaged weights alone, named as in `averaged.network`."""
        return self.averaged.network.state_dict()

    def import_state(self, state: Mapping[str, Tensor]) -> None:
        """Load a state from `export_state`. The model then has only its averaged weights: `is_exported`."""
        self.averaged.network.load_state_dict(state)
        self.is_exported = True


class VisionModel(Model):
    """A model of images, with the shape of the images and the number of their classes.

    Args:
        image_shape: (C, H, W) of the images, linked from the data.
        num_classes: width of the condition vector (classes or attributes), linked from the data; 0 without labels.
        compile: see `Model`.
    """

    def __init__(self, image_shape: Shape, num_classes: int, compile: bool | str = False) -> None:
        super().__init__(compile)
        self.image_shape: Shape = (image_shape[0], image_shape[1], image_shape[2])
        self.num_classes = num_classes


class ImageModel(VisionModel):
    """A generative model of images.

    `conditional` says whether `sample` takes a condition: (N,) int64 classes, (N, num_classes) float attributes or (N, L)
    int64 words, 0 for padding.
    """

    conditional: bool = False
    sample_chunk: int = 64

    @abstractmethod
    def generate(self, seeds: Sequence[int], condition: Tensor | None, **options: Any) -> Tensor:
        """Generate one image per seed, (len(seeds), C, H, W) in [-1, 1]; each depends on its own seed and condition only."""

    def encode_condition(self, labels: Tensor | None) -> Tensor | None:
        """Labels as input of the network, see `encode_labels`; None without labels, and for an unconditional model."""
        return encode_labels(labels.to(self.device), self.num_classes) if self.conditional and labels is not None else None

    @torch.no_grad()
    def sample(self, seeds: Sequence[int], condition: Tensor | None = None, chunk: int | None = None, **options: Any) -> Tensor:
        """Generate one image per seed with the averaged weights.

        Image i depends on `seeds[i]` and `condition[i]` only. Matrix kernels may round differently for another number of
        rows, so the network always sees chunks of the same number of images, the last one padded.

        Args:
            seeds: N integers in [0, 2**63).
            condition: (N,) int64 classes, (N, num_classes) float attributes or (N, L) int64 words; None for an unconditional
                model.
            chunk: images at once; `sample_chunk` by default. Another number changes images in their last bits.
            options: of the family; a tensor among them has one row for each seed.

        Returns:
            (N, C, H, W) float32 in [-1, 1], on the model's device.

        Raises:
            ValueError: a condition is missing, not wanted, or of another length than the seeds.
            UserError: so many images do not fit into the memory.
        """
        check_number(len(seeds), self.image_shape)
        check_condition(self.conditional, self.num_classes, condition, len(seeds))
        images, chunk = [], chunk or self.sample_chunk
        for start in range(0, len(seeds), chunk):
            rows = [min(i, len(seeds) - 1) for i in range(start, start + chunk)]
            part = None if condition is None else condition[rows].to(self.device)
            own = {name: v[rows].to(self.device) if isinstance(v, Tensor) else v for name, v in options.items()}
            with evaluating(self):  # a discriminator that chooses samples has batch normalisation or dropout
                generated = self.generate([int(seeds[i]) for i in rows], part, **own)
            images.append(generated[: len(seeds) - start].float())
        return torch.cat(images) if images else torch.empty(0, *self.image_shape, device=self.device)

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Generate as many images as the batch has, with its labels if the model is conditional: (N, C, H, W) in [-1, 1]."""
        seeds = [batch_idx * 2**20 + i for i in range(len(batch[0]))]
        return self.sample(seeds, batch[1] if self.conditional else None).cpu()


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """All parts of a module in evaluation mode; afterwards each is in the mode that it was in."""
    training = [part for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


def networks_of(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost modules inside `module` that have a forward method; metrics are not networks."""
    for child in module.children():
        if isinstance(child, Metric):
            continue
        if type(child).forward is nn.Module.forward:
            yield from networks_of(child)
        else:
            yield child
