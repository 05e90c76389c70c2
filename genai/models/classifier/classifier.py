"""A classifier of images: the discriminative baseline, and how the suite's feature networks are trained."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from genai.images import to_float
from genai.models.base import Model, NetworkFactory, Shape
from genai.models.classifier.scores import Scores
from genai.models.ema import Averaged
from genai.models.optimization import build_optimizer
from genai.models.schedules import Cosine

CONVNET = {"class_path": "genai.networks.convnet.ConvNet"}
ADAMW = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 3e-3, "weight_decay": 0.05}}


class Classifier(Model):
    """Learns classes by cross-entropy, or binary attributes by one logistic regression each.

    Args:
        image_shape: (C, H, W), linked from the data.
        num_classes: classes or attributes, linked from the data.
        network: factory of the network images -> logits.
        optimizer: any torch optimiser.
        attributes: the labels are (N, K) attributes of 0 and 1, not (N,) classes.
        label_smoothing: share of the target spread over all classes (Szegedy et al. 2016, section 7).
        lr_schedule: factor on the learning rate, a function of the images seen.
        ema_halflife_kimg: half-life of the averaged network, in thousands of images.
        options: of `Model`.
    """

    def __init__(
        self,
        image_shape: Shape,
        num_classes: int,
        network: NetworkFactory = CONVNET,  # type: ignore[assignment]
        optimizer: OptimizerCallable = ADAMW,  # type: ignore[assignment]
        attributes: bool = False,
        label_smoothing: float = 0.0,
        lr_schedule: Cosine | None = None,
        ema_halflife_kimg: float = 10.0,
        **options: Any,
    ) -> None:
        super().__init__(image_shape, num_classes, **options)
        self.automatic_optimization = False
        self.network = network(self.image_shape, num_classes)
        self.averaged = Averaged(self.network, ema_halflife_kimg)
        self.optimizer = optimizer
        self.attributes = attributes
        self.label_smoothing = label_smoothing
        self.lr_schedule = lr_schedule

    def configure_optimizers(self) -> Optimizer:
        return build_optimizer(self.optimizer, self.network)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        optimizer: Any = self.optimizers()
        self.set_learning_rates([optimizer], self.lr_schedule)
        loss = self.descend(optimizer, self.training_loss, images, labels)
        num_images = self.advance(len(images))
        self.averaged.update(self.network, num_images, self.images_seen)
        self.track({"train/loss": loss, "train/lr": optimizer.param_groups[0]["lr"]})

    def training_loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Loss of each image (N,)."""
        return classification_loss(self.network(images), labels, self.attributes, self.label_smoothing)

    def on_validation_epoch_start(self) -> None:
        self.scores = Scores(self.num_classes, self.attributes)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.score(batch)

    def on_validation_epoch_end(self) -> None:
        self.publish("val")

    def on_test_epoch_start(self) -> None:
        self.scores = Scores(self.num_classes, self.attributes)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.score(batch)

    def on_test_epoch_end(self) -> None:
        self.publish("test")

    def score(self, batch: tuple[Tensor, Tensor]) -> None:
        """Add a batch to the scores of the averaged network."""
        images, labels = batch
        logits = self.averaged(images)
        self.scores.update(logits, labels, classification_loss(logits, labels, self.attributes))

    def publish(self, split: str) -> None:
        """Log the split's scores at `images_seen`; `val/loss` is what a checkpoint should minimise."""
        metrics = {f"{split}/{name}": value for name, value in self.scores.compute(self.class_names()).items()}
        self.log_dict(metrics, logger=False)
        if self.trainer.sanity_checking:
            return
        for logger in self.loggers:
            logger.log_metrics(metrics, step=self.images_seen)
        if split == "test":
            rank_zero_info("\n".join(f"{name:<28} {value:.4f}" for name, value in metrics.items()))

    def class_names(self) -> Sequence[str]:
        """The data's names of the classes or attributes; their numbers where the data have none."""
        names: Sequence[str] = getattr(getattr(self.trainer, "datamodule", None), "class_names", ())
        return names or [str(i) for i in range(self.num_classes)]

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """Probabilities (N, num_classes) by the averaged network, for images (N, C, H, W), uint8 or float in [-1, 1].

        Those of classes sum to 1; those of attributes are independent.
        """
        x = to_float(images) if images.dtype == torch.uint8 else images
        logits = self.averaged(x.to(self.device))
        return torch.sigmoid(logits) if self.attributes else torch.softmax(logits, dim=1)

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """`predict` for a batch of the test split."""
        return self.predict(batch[0]).cpu()


def classification_loss(logits: Tensor, labels: Tensor, attributes: bool, label_smoothing: float = 0.0) -> Tensor:
    """Loss of each image (N,), in nats, from logits (N, K).

    For classes (N,), the cross-entropy. For attributes (N, K) in [0, 1], the binary cross-entropy, mean over attributes;
    smoothing moves their targets towards 1/2.

    Raises:
        ValueError: the labels are of the other kind.
    """
    if attributes != (labels.ndim == 2):
        kind = "attributes" if labels.ndim == 2 else "classes"
        raise ValueError(f"the labels are {kind}, of shape {tuple(labels.shape)}: set attributes={labels.ndim == 2}")
    if not attributes:
        return F.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)
    targets = labels.float() * (1 - label_smoothing) + label_smoothing / 2
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(dim=1)
