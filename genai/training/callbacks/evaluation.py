"""Evaluation during training and testing: N samples of the averaged weights, one feature pass, every metric."""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import lightning as L
import rich
import torch
from rich.text import Text
from torch import Tensor, nn

from genai.errors import UserError
from genai.images import to_uint8
from genai.metrics.evaluation import EvaluationResult, Evaluator
from genai.metrics.features import FeatureNetwork, Features, concatenate, default_features, load_extractor
from genai.metrics.labels import cycle_labels, expected_labels
from genai.metrics.protocol import RealData
from genai.models.base import ImageModel
from genai.models.seeds import image_seeds
from genai.runs import merge_json
from genai.training.callbacks.cost import name_of
from genai.training.callbacks.epochs import is_kth_or_last
from genai.training.callbacks.preemption import stop_if_signalled
from genai.training.callbacks.run_directory import overrides_of, run_dir_of

DEV_RUN_SAMPLES = 64  # with --trainer.fast_dev_run


class Part(NamedTuple):
    """A batch of samples: its features, and the uint8 images (N, C, H, W), or none of them."""

    features: Features
    images: Tensor


class EvaluateSamples(L.Callback):
    """Evaluates samples against the validation split during `fit` and `validate`, against the test split during `test`.

    Metrics are logged as val/NAME or test/NAME, so that a checkpoint can monitor `val/fid`; `validate` and `test` print them.
    If the Trainer has a `RunDirectory`, they are merged into its metrics.json. A conditional model is conditioned on the labels
    of the reference images, in their order and cycled, so its class shares are compared with those of the data. Models that do
    not sample images are ignored. Other callbacks read `latest_result(trainer)` in `on_validation_end`, when it is complete.

    Args:
        features: feature network: `auto` (the one shipped under the data's name, else `inception`), a name or a path; see
            `load_extractor`.
        weights: weights file of the feature network, if it is not the default one.
        num_samples: number of samples; limited by the size of the training split, and 64 with `fast_dev_run`.
        every_n_epochs: evaluate each k-th epoch of a fit and the last one; 0 evaluates none. `validate` and `test` always do.
        batch_size: samples generated at once; no score depends on the number of processes.
        seed: of the samples, the same at every epoch.
        two_sample: `validate` and `test` also train three small classifiers on samples against real images (a
            minute); a held-out accuracy of 0.5 is indistinguishable.

    Raises:
        UserError: `num_samples` is less than 2, `batch_size` less than 1 or `every_n_epochs` less than 0.
    """

    def __init__(
        self,
        features: str = "auto",
        weights: str | None = None,
        num_samples: int = 10_000,
        every_n_epochs: int = 1,
        batch_size: int = 250,
        seed: int = 0,
        two_sample: bool = False,
    ) -> None:
        if num_samples < 2:
            raise UserError(f"evaluation.num_samples {num_samples} is too few for a score: use 2 or more")
        for option, value, least in (("batch_size", batch_size, 1), ("every_n_epochs", every_n_epochs, 0)):
            if value < least:
                raise UserError(f"evaluation.{option} {value} is out of range: use {least} or more")
        self.features = features
        self.weights = weights
        self.num_samples = num_samples
        self.every_n_epochs = every_n_epochs
        self.batch_size = batch_size
        self.seed = seed
        self.two_sample = two_sample
        self.latest_result: EvaluationResult | None = None
        self._network: FeatureNetwork | None = None
        self._evaluators: dict[str, Evaluator] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Load the feature network before training, so that missing weights are an error at once."""
        if self._network is None:
            self.load(_data(trainer), pl_module, stage)

    def load(self, data: Any, model: L.LightningModule, stage: str) -> None:
        """Load the feature network if `stage` of `model` evaluates samples.

        Raises:
            UserError: its weights are missing, or it does not read images of the data's shape.
        """
        if self._evaluates(model, stage):
            name = default_features(data.name) if self.features == "auto" else self.features
            self._network = load_extractor(name, self.weights)
            self._network.check_channels(data.image_shape[0])

    def check_sizes(self, data: RealData, model: L.LightningModule, stage: str) -> None:
        """Check that there are enough images for the scores of `stage`.

        Raises:
            UserError: the split to compare with, or train, has fewer than two.
        """
        if not self._evaluates(model, stage):
            return
        for split in ("train", "test" if stage == "test" else "val"):
            num = len(data.split(split))
            if num < 2:
                without = ", or set evaluation.every_n_epochs: 0 to train without scores" if stage == "fit" else ""
                raise UserError(
                    f"{data.name} has {num} {split} image{'' if num == 1 else 's'}, and scores need at least 2: "
                    f"add images (6 or more in all){without}"
                )

    def _evaluates(self, model: L.LightningModule, stage: str) -> bool:
        """Whether `stage` of `model` evaluates samples."""
        is_due = stage in ("validate", "test") or (stage == "fit" and self.every_n_epochs > 0)
        return isinstance(model, ImageModel) and is_due

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking and self._is_due(trainer):
            self._evaluate(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._evaluate(trainer, pl_module, "test")

    def _is_due(self, trainer: L.Trainer) -> bool:
        """Whether the current epoch is evaluated."""
        return trainer.state.fn != "fit" or is_kth_or_last(trainer, self.every_n_epochs)

    def _evaluate(self, trainer: L.Trainer, model: L.LightningModule, split: str) -> None:
        """Sample, measure on the first process, and report."""
        if self._network is None or not isinstance(model, ImageModel):
            return
        data = _data(trainer)
        num = self._num_samples(trainer, data)
        condition = cycle_labels(data.split(split).labels, num) if model.conditional else None
        two_sample = self.two_sample and trainer.state.fn != "fit"
        network = self._network.to(model.device)
        parts, sample_seconds = self._sample_features(trainer, model, network, num, condition, two_sample)
        result = None
        if trainer.is_global_zero:
            if split not in self._evaluators:
                self._evaluators[split] = Evaluator.of(data, split, self._network, num, self.seed, two_sample)
            labels = expected_labels(data, split, self._network, num) if model.conditional else None
            images = torch.cat([part.images for part in parts]) if two_sample else None
            result = self._evaluators[split].measure(concatenate([part.features for part in parts]), labels, images)
        result = trainer.strategy.broadcast(result)
        assert result is not None
        self.latest_result = result
        self._report(trainer, model, split, result, sample_seconds)

    def _num_samples(self, trainer: L.Trainer, data: Any) -> int:
        is_dev_run = bool(getattr(trainer, "fast_dev_run", False))
        wanted = min(self.num_samples, DEV_RUN_SAMPLES) if is_dev_run else self.num_samples
        return min(wanted, len(data.split("train")))

    def _sample_features(
        self,
        trainer: L.Trainer,
        model: ImageModel,
        network: FeatureNetwork,
        num: int,
        condition: Tensor | None,
        keep_images: bool,
    ) -> tuple[list[Part], float]:
        """Features of `num` samples in the order of their seeds, and the samples themselves if `keep_images`.

        Also the seconds that this device took to sample one image.

        Rank r generates batches r, r + world_size, ..., so a batch has the same images for any number of processes. Ranks
        without a batch repeat the last one, so that all ranks make the same number of calls.
        """
        seeds = image_seeds(self.seed, num)
        starts = range(0, num, self.batch_size)
        parts, sampled, seconds = [], 0, 0.0
        for first in range(0, len(starts), trainer.world_size):
            stop_if_signalled(trainer)
            start = starts[min(first + trainer.global_rank, len(starts) - 1)]
            rows = slice(start, start + self.batch_size)
            condition_of_rows = None if condition is None else condition[rows].to(model.device)
            begin = time.perf_counter()
            images = to_uint8(model.sample(seeds[rows], condition_of_rows))
            if model.device.type == "cuda":
                torch.cuda.synchronize(model.device)
            sampled, seconds = sampled + len(images), seconds + time.perf_counter() - begin
            parts.append(Part(network(images).cpu(), images.cpu() if keep_images else images[:0].cpu()))
        return _gather(trainer, parts, len(starts)), seconds / max(sampled, 1)

    def _report(
        self, trainer: L.Trainer, model: ImageModel, split: str, result: EvaluationResult, sample_seconds: float
    ) -> None:
        """Log the metrics, merge them into metrics.json and, outside of a fit, print them.

        Options that differ from the run's config stay out of its curves, and are named in metrics.json.
        """
        overrides = overrides_of(trainer)
        metrics = {f"{split}/{name}": value for name, value in result.metrics().items()}
        is_fit = trainer.state.fn == "fit"
        model.log_dict(metrics, logger=is_fit and bool(trainer.loggers), on_epoch=True, sync_dist=True)
        for logger in () if is_fit or overrides else trainer.loggers:  # Lightning would print what it logs outside of a fit
            logger.log_metrics(metrics, step=model.images_seen)
        if not trainer.is_global_zero:
            return
        sizes = network_sizes(model)
        run_dir = run_dir_of(trainer)
        if run_dir is not None:
            about = {"parameters": sizes, "images_seen": model.images_seen, "overrides": list(overrides)}
            keep = not is_fit  # the epochs of a fit are in metrics.csv
            merge_json(run_dir / "metrics.json", {split: result.to_dict() | about}, keep)
            sampling = {"seconds": sample_seconds, "device": name_of(model.device)}  # for one image
            merge_json(run_dir / "metrics.json", {"sampling": sampling})
        if not is_fit:
            rich.print(result)
            if sizes:
                rich.print(Text(describe_sizes(sizes), style="dim"))


def latest_result(trainer: L.Trainer) -> EvaluationResult | None:
    """The latest result of the trainer's `EvaluateSamples`; None without one."""
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return next((callback.latest_result for callback in callbacks if isinstance(callback, EvaluateSamples)), None)


def step_of(trainer: L.Trainer) -> int:
    """The step that Lightning gives to what a model logs; `ImagesSeenAxis`, if there is one, replaces it."""
    return trainer.fit_loop.epoch_loop._batches_that_stepped


def network_sizes(model: nn.Module) -> dict[str, int]:
    """Number of parameters of each network of a model, by its name in the model; without the averaged copy."""
    sizes = {name: sum(p.numel() for p in child.parameters()) for name, child in model.named_children()}
    return {name: size for name, size in sizes.items() if size and name != "averaged"}


def describe_sizes(sizes: Mapping[str, int]) -> str:
    """One line of text."""
    return "parameters: " + ", ".join(f"{name} {size:,}" for name, size in sizes.items())


def _data(trainer: L.Trainer) -> Any:
    data = getattr(trainer, "datamodule", None)
    if data is None:
        raise UserError("EvaluateSamples needs a data module: call trainer.fit(model, datamodule=...)")
    return data


def _gather(trainer: L.Trainer, parts: list[Part], num_batches: int) -> list[Part]:
    """All batches in order, on the CPU; rank r holds batches r, r + world_size, ..."""
    ranks = [parts]
    if trainer.world_size > 1:
        ranks = [[] for _ in range(trainer.world_size)]
        torch.distributed.all_gather_object(ranks, parts)
    return [ranks[b % len(ranks)][b // len(ranks)] for b in range(num_batches)]
