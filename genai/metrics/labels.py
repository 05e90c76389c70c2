"""Which labels samples are conditioned on, and which classes or attributes they should then show."""

import numpy as np
import torch
from torch import Tensor

from genai.metrics.features import FeatureNetwork
from genai.metrics.protocol import HasAttributes, RealData
from genai.metrics.reference import subset_indices


def cycle_labels(labels: np.ndarray, num: int) -> Tensor:
    """The labels (N, ...) of the reference images in their order, cycled if there are fewer than `num`: (num, ...)."""
    reference = torch.as_tensor(labels[subset_indices(len(labels), num)])
    return reference[torch.arange(num) % len(reference)]


def expected_labels(data: RealData, split: str, network: FeatureNetwork, num: int) -> Tensor | None:
    """What `num` samples that are conditioned on the labels of a split should show, in terms of the feature network.

    (num,) classes or (num, K) attributes of the images whose labels `cycle_labels` takes; None if the feature network does not
    have the same class or attribute names.
    """
    if isinstance(data, HasAttributes) and network.task == "attributes":
        names, labels = data.attribute_names, data.attributes(split)
    elif data.label_kind == network.task:
        names, labels = data.class_names, data.split(split).labels
    else:
        return None
    return cycle_labels(labels, num) if tuple(names) == network.class_names else None
