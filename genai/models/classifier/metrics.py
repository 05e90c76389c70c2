"""How well a classifier does: accuracy for classes, area under the ROC curve for attributes."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy, MultilabelAUROC


class Scores:
    """Gathers the logits of a split, over all devices; no module, so that nothing of it enters a checkpoint.

    Args:
        num_classes: number of logits.
        attributes: the labels are (N, K) attributes of 0 and 1, not (N,) classes.
    """

    def __init__(self, num_classes: int, attributes: bool) -> None:
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
        """Of the figure: `auc` or `accuracy`."""
        return "auc" if self.attributes else "accuracy"

    @torch.no_grad()
    def update(self, logits: Tensor, labels: Tensor, loss: Tensor) -> None:
        """Add logits (N, num_classes), labels (N,) or (N, num_classes), and the loss of each image (N,)."""
        self.loss.to(loss.device).update(loss.float())
        for metric in filter(None, (self.each, self.overall)):
            metric.to(logits.device).update(logits.float(), labels.long())

    def compute(self, class_names: Sequence[str]) -> dict[str, float]:
        """`loss`; `accuracy` (of all images) or `auc` (mean over attributes), and `accuracy/NAME` or `auc/NAME` of each."""
        each = self.each.compute()
        overall = each.mean() if self.overall is None else self.overall.compute()
        named = {f"{self.name}/{name}": float(value) for name, value in zip(class_names, each, strict=True)}
        return {"loss": float(self.loss.compute()), self.name: float(overall), **named}
