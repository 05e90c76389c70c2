"""Sample quality while training and testing: N samples of the averaged weights, one feature pass, every score."""

from pathlib import Path
from typing import Any

import lightning as L
import rich
import torch
from rich.text import Text
from torch import Tensor, nn

from genai.errors import UserError
from genai.images import to_uint8
from genai.metrics.features import BUILT_IN, FeatureNetwork, Features, concatenate, load_extractor
from genai.metrics.quality import Evaluator, Quality, asked_labels, cycled
from genai.models.base import ImageModel
from genai.models.seeds import image_seeds
from genai.runs import merge_json
from genai.training.callbacks.preemption import stop_if_told
from genai.training.callbacks.run_directory import overrides_of

DEV_RUN_SAMPLES = 64  # with --trainer.fast_dev_run


class SampleQuality(L.Callback):
    """Scores samples against the validation split while fitting or validating, against the test split when testing.

    Scores go to every logger at `images_seen`, to `trainer.callback_metrics` (so that a checkpoint can monitor
    `val/fid`) and, where `run_dir` is set, to its metrics.json. A conditional model is asked for the labels of the
    reference images, in their order and cycled, so that it is held to the real class shares. The sizes of the model's
    networks stand beside its scores. Models that draw no images are left alone.

    Args:
        features: feature network: `auto` (the built-in one called like the data, else `inception`), a name or a path;
            see `load_extractor`.
        weights: weights file of the feature network, where it is not in its usual place.
        num_samples: how many samples are scored; fewer when the training split is smaller, and 64 in a fast_dev_run.
        every_n_epochs: score each k-th epoch of a fit and its last; 0 scores none, `validate` and `test` always score.
        batch_size: samples drawn at once; no score depends on the number of processes.
        seed: of the samples, the same at every epoch.

    Raises:
        UserError: `num_samples` is less than 2.
    """

    def __init__(
        self,
        features: str = "auto",
        weights: str | None = None,
        num_samples: int = 10_000,
        every_n_epochs: int = 1,
        batch_size: int = 250,
        seed: int = 0,
    ) -> None:
        if num_samples < 2:
            raise UserError(f"quality.num_samples {num_samples} is too few for a score: use 2 or more")
        self.features = features
        self.weights = weights
        self.num_samples = num_samples
        self.every_n_epochs = every_n_epochs
        self.batch_size = batch_size
        self.seed = seed
        self.run_dir: Path | None = None
        self.last: Quality | None = None
        self._network: FeatureNetwork | None = None
        self._evaluators: dict[str, Evaluator] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Load the feature network, so that missing weights are an error before the training and not after an epoch."""
        if self._network is None:
            self.load(_data(trainer).name, pl_module, stage)

    def load(self, data_name: str, model: L.LightningModule, stage: str) -> None:
        """Load the feature network that `stage` of `model` needs, if any.

        Raises:
            UserError: its weights are not there.
        """
        scores = stage in ("validate", "test") or (stage == "fit" and self.every_n_epochs > 0)
        if isinstance(model, ImageModel) and scores:
            self._network = load_extractor(self._features(data_name), self.weights)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking and self._is_due(trainer):
            self._measure(trainer, pl_module, "val")
            if trainer.state.fn == "validate":
                self._print(trainer, pl_module)

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._measure(trainer, pl_module, "test")
        self._print(trainer, pl_module)

    def _print(self, trainer: L.Trainer, model: L.LightningModule) -> None:
        if not trainer.is_global_zero or self.last is None:
            return
        rich.print(self.last)
        if sizes := network_sizes(model):
            rich.print(Text(describe_sizes(sizes), style="dim"))

    def _features(self, data_name: str) -> str:
        if self.features != "auto":
            return self.features
        return data_name if data_name in BUILT_IN else "inception"

    def _is_due(self, trainer: L.Trainer) -> bool:
        """Whether the current epoch is scored."""
        if trainer.state.fn != "fit":
            return True
        epoch = trainer.current_epoch + 1
        is_last = epoch == trainer.max_epochs or trainer.should_stop or trainer.global_step == trainer.max_steps
        return self.every_n_epochs > 0 and (epoch % self.every_n_epochs == 0 or is_last)

    def _measure(self, trainer: L.Trainer, model: L.LightningModule, split: str) -> None:
        if self._network is None or not isinstance(model, ImageModel):
            return
        data = _data(trainer)
        count = self._count(trainer, data)
        condition = cycled(data.split(split).labels, count) if model.conditional else None  # in the order of `asked`
        samples = self._sample_features(trainer, model, self._network.to(model.device), count, condition)
        quality = None
        if trainer.is_global_zero:
            asked = None if condition is None else asked_labels(data, split, self._network, count)
            quality = self._evaluator(trainer, split).measure(samples, asked)
        quality = trainer.strategy.broadcast(quality)
        assert quality is not None
        self.last = quality
        self._publish(trainer, model, split, quality)

    def _count(self, trainer: L.Trainer, data: Any) -> int:
        is_dev_run = bool(getattr(trainer, "fast_dev_run", False))
        wanted = min(self.num_samples, DEV_RUN_SAMPLES) if is_dev_run else self.num_samples
        return min(wanted, len(data.split("train")))

    def _sample_features(
        self, trainer: L.Trainer, model: ImageModel, network: FeatureNetwork, count: int, condition: Tensor | None
    ) -> Features:
        """Features of `count` samples in the order of their seeds.

        Batch b is drawn by rank b modulo the number of ranks, so every batch is made of the same images however many
        processes there are; ranks left without a batch draw the last one again, so that all make as many calls.
        """
        seeds = image_seeds(self.seed, count)
        starts = range(0, count, self.batch_size)
        parts = []
        for first in range(0, len(starts), trainer.world_size):
            stop_if_told(trainer)
            start = starts[min(first + trainer.global_rank, len(starts) - 1)]
            rows = slice(start, start + self.batch_size)
            images = model.sample(seeds[rows], None if condition is None else condition[rows].to(model.device))
            parts.append(network(to_uint8(images)).cpu())
        return _gather(trainer, parts, len(starts))

    def _evaluator(self, trainer: L.Trainer, split: str) -> Evaluator:
        if split not in self._evaluators:
            assert self._network is not None
            data = _data(trainer)
            count = self._count(trainer, data)
            self._evaluators[split] = Evaluator.of(data, split, self._network, count, self.seed)
        return self._evaluators[split]

    def _publish(self, trainer: L.Trainer, model: ImageModel, split: str, quality: Quality) -> None:
        metrics = {f"{split}/{name}": value for name, value in quality.metrics().items()}
        model.log_dict(metrics, logger=False, on_epoch=True, sync_dist=True)
        for logger in () if overrides_of(trainer) else trainer.loggers:  # the curve is of the model as its run's config has it
            logger.log_metrics(metrics, step=model.images_seen)
        if self.run_dir is not None and trainer.is_global_zero:
            about = {
                "parameters": network_sizes(model),
                "images_seen": model.images_seen,
                "overrides": list(overrides_of(trainer)),
            }
            keep = trainer.state.fn != "fit"  # whose epochs are in metrics.csv
            merge_json(self.run_dir / "metrics.json", {split: quality.to_dict() | about}, keep)


def network_sizes(model: nn.Module) -> dict[str, int]:
    """Parameters of each network of a model, by its name in the model; the averaged copy is none of its own."""
    sizes = {name: sum(p.numel() for p in child.parameters()) for name, child in model.named_children()}
    return {name: size for name, size in sizes.items() if size and name != "averaged"}


def describe_sizes(sizes: dict[str, int]) -> str:
    """One line for a reader."""
    return "parameters: " + ", ".join(f"{name} {size:,}" for name, size in sizes.items())


def _data(trainer: L.Trainer) -> Any:
    data = getattr(trainer, "datamodule", None)
    if data is None:
        raise UserError("SampleQuality needs a data module: call trainer.fit(model, datamodule=...)")
    return data


def _gather(trainer: L.Trainer, parts: list[Features], num_batches: int) -> Features:
    """The features of all batches in order, on the CPU; rank r holds batches r, r + world_size, ..."""
    ranks = [parts]
    if trainer.world_size > 1:
        ranks = [[] for _ in range(trainer.world_size)]
        torch.distributed.all_gather_object(ranks, parts)
    return concatenate([ranks[b % len(ranks)][b // len(ranks)] for b in range(num_batches)])
