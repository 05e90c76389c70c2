"""Metrics of a classifier: accuracy for classes, area under the ROC curve for attributes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy, MultilabelAUROC


class LabelCounts(Metric):
    """Which of `num` labels some images of a split have, and which some lack."""

    present: Tensor
    total: Tensor

    def __init__(self, num: int) -> None:
        super().__init__()
        self.add_state("present", torch.zeros(num), dist_reduce_fx="sum")
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, labels: Tensor) -> None:
        """Add labels (N,) int64 or (N, num) of 0 and 1."""
        rows = labels if labels.ndim == 2 else nn.functional.one_hot(labels.long(), len(self.present))
        self.present += rows.sum(dim=0)
        self.total += len(labels)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Whether some image has each label, and whether some image lacks it: (num,) bool each."""
        return self.present > 0, self.present < self.total


class ClassifierMetrics(nn.Module):
    """Loss and accuracy (classes) or AUC (attributes) over a split, on all devices together.

    torchmetrics gives 0 for classes without an image and attributes of one value; they are left out here.

    Args:
        num_classes: number of logits.
        attributes: the labels are (N, K) attributes of 0 and 1, not (N,) classes.
    """

    def __init__(self, num_classes: int, attributes: bool) -> None:
        super().__init__()
        self.attributes = attributes
        self.loss = MeanMetric()
        self.overall: Metric | None = None
        self.counts = LabelCounts(num_classes)
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
        self.counts.update(labels)
        self.each.update(logits.float(), labels.long())
        if self.overall is not None:
            self.overall.update(logits.float(), labels.long())

    def compute(self, class_names: Sequence[str]) -> dict[str, float]:
        """`loss`; `accuracy` (of all images) or `auc` (mean over attributes); `accuracy/NAME` or `auc/NAME` of each class.

        NaN where no attribute has both values.
        """
        each = self.each.compute()
        some_have, some_lack = self.counts.compute()
        measured = some_have & some_lack if self.attributes else some_have
        overall = each[measured].mean() if self.overall is None else self.overall.compute()
        columns = zip(class_names, each.tolist(), measured.tolist(), strict=True)
        named = {f"{self.name}/{name}": value for name, value, is_measured in columns if is_measured}
        return {"loss": float(self.loss.compute()), self.name: float(overall), **named}

    def reset(self) -> None:
        """Start a new epoch."""
        for metric in filter(None, (self.loss, self.each, self.overall, self.counts)):
            metric.reset()
