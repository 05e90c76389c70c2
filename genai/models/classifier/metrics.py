"""Metrics of a classifier: accuracy for classes, area under the ROC curve for attributes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy, MultilabelAUROC


class ClassifierMetrics(nn.Module):
    """Loss and accuracy (classes) or AUC (attributes) over a split, on all devices together.

    Args:
        num_classes: number of logits.
        attributes: the labels are (N, K) attributes of 0 and 1, not (N,) classes.
    """

    def __init__(self, num_classes: int, attributes: bool) -> None:
        super().__init__()
        self.attributes = attributes
        self.loss = MeanMetric()
        self.overall: Metric | None = None
        if attributes:
            self.each: Metric = MultilabelAUROC(num_classes, average=None)
        else:
            self.each = MulticlassAccuracy(num_classes, average=None)
            self.overall = MulticlassAccuracy(num_classes, average="micro")

    @property
    def name(self) -> str:
        """The name of the metric: `auc` or `accuracy`."""
        return "auc" if self.attributes else "accuracy"

    @torch.no_grad()
    def update(self, logits: Tensor, labels: Tensor, loss: Tensor) -> None:
        """Add logits (N, num_classes), labels (N,) or (N, num_classes), and the loss of each image (N,)."""
        self.loss.update(loss.float())
        self.each.update(logits.float(), labels.long())
        if self.overall is not None:
            self.overall.update(logits.float(), labels.long())

    def compute(self, class_names: Sequence[str]) -> dict[str, float]:
        """`loss`; `accuracy` (of all images) or `auc` (mean over attributes); `accuracy/NAME` or `auc/NAME` of each class."""
        each = self.each.compute()
        overall = each.mean() if self.overall is None else self.overall.compute()
        named = {f"{self.name}/{name}": float(value) for name, value in zip(class_names, each, strict=True)}
        return {"loss": float(self.loss.compute()), self.name: float(overall), **named}

    def reset(self) -> None:
        """Start a new epoch."""
        for metric in filter(None, (self.loss, self.each, self.overall)):
            metric.reset()
