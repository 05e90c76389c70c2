"""A classifier of images: the discriminative baseline; it also trains the feature networks of the suite."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable, instantiate_class
from torch import Tensor, nn
from torch.nn import functional as F

from genai.errors import UserError
from genai.images import to_float
from genai.models.base import NetworkFactory, Shape, VisionModel
from genai.models.classifier.metrics import ClassifierMetrics
from genai.models.ema import Averaged
from genai.models.optimization import optimizer_and_schedule
from genai.models.schedules import Cosine

CONVNET = {"class_path": "genai.networks.convnet.ConvNet"}
ADAMW = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 3e-3, "weight_decay": 0.05}}


class Classifier(VisionModel):
    """Predicts classes (trained with cross-entropy) or binary attributes (one binary cross-entropy each).

    Args:
        image_shape: (C, H, W), linked from the data.
        num_classes: classes or attributes, linked from the data.
        network: factory of the network images -> logits.
        optimizer: any torch optimiser.
        attributes: the labels are (N, K) attributes of 0 and 1, not (N,) classes.
        label_smoothing: share of the target probability that is spread over all classes (Szegedy et al. 2016, section 7).
        lr_schedule: factor on the learning rate, a function of the images seen.
        ema_halflife_kimg: half-life of the averaged network, in thousands of images.
        options: of `Model`.

    Raises:
        UserError: the data have no labels.
    """

    val_metrics = ("loss", "accuracy", "auc")

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
        if num_classes == 0:
            raise UserError("a classifier needs labels, and the data have none: choose data with labels")
        shape = self.image_shape, num_classes
        self.network = instantiate_class(shape, network) if isinstance(network, dict) else network(*shape)  # default: a dict
        self.averaged = Averaged(self.network, ema_halflife_kimg)
        self.metrics = ClassifierMetrics(num_classes, attributes)
        self.optimizer = optimizer
        self.attributes = attributes
        self.label_smoothing = label_smoothing
        self.lr_schedule = lr_schedule

    def trained_network(self) -> nn.Module:
        return self.network

    def configure_optimizers(self) -> Any:
        return optimizer_and_schedule(self.optimizer, self.network, self.lr_schedule, self)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        loss = classification_loss(self.network(images), labels, self.attributes, self.label_smoothing).mean()
        self.step_log.record({"train/loss": loss}, prog_bar=True)
        self.count_images(len(images))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        self.log_metrics("val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.evaluate(batch)

    def on_test_epoch_end(self) -> None:
        self.log_metrics("test")

    def evaluate(self, batch: tuple[Tensor, Tensor]) -> None:
        """Add a batch to the metrics of the averaged network."""
        images, labels = batch
        logits = self.averaged(images)
        self.metrics.update(logits, labels, classification_loss(logits, labels, self.attributes))

    def log_metrics(self, split: str) -> None:
        """Log the metrics of the split, see `ClassifierMetrics.compute`."""
        metrics = self.metrics.compute(self.class_names())
        self.log_dict({f"{split}/{name}": value for name, value in metrics.items()}, sync_dist=True)
        self.metrics.reset()

    def class_names(self) -> Sequence[str]:
        """The names of the classes or attributes that the data module has, or their numbers."""
        names: Sequence[str] = getattr(getattr(self.trainer, "datamodule", None), "class_names", ())
        return names or [str(i) for i in range(self.num_classes)]

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """Probabilities (N, num_classes) of the averaged network for images (N, C, H, W), uint8 or float in [-1, 1].

        Probabilities of classes sum to 1; probabilities of attributes are independent.
        """
        x = to_float(images) if images.dtype == torch.uint8 else images
        logits = self.averaged(x.to(self.device))
        return torch.sigmoid(logits) if self.attributes else torch.softmax(logits, dim=1)

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Lightning's hook: `predict` for a batch."""
        return self.predict(batch[0]).cpu()


def classification_loss(logits: Tensor, labels: Tensor, attributes: bool, label_smoothing: float = 0.0) -> Tensor:
    """Loss of each image (N,), in nats, from logits (N, K).

    For classes (N,): the cross-entropy. For attributes (N, K) in [0, 1]: the binary cross-entropy, mean over attributes, whose
    targets move towards 1/2 with label smoothing.

    Raises:
        ValueError: the labels are attributes but `attributes` is False, or the reverse.
    """
    if attributes != (labels.ndim == 2):
        kind = "attributes" if labels.ndim == 2 else "classes"
        raise ValueError(f"the labels are {kind}, of shape {tuple(labels.shape)}: set attributes={labels.ndim == 2}")
    if not attributes:
        return F.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)
    targets = labels.float() * (1 - label_smoothing) + label_smoothing / 2
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(dim=1)
