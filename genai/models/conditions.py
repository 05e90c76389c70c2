"""Conditions: labels encoded as inputs of the networks. A row of zeros is the null condition."""

import torch
from torch import Tensor

from genai.errors import UserError
from genai.networks.conditioning import as_vector


def condition_vector(condition: Tensor, num_classes: int) -> Tensor:
    """(N,) classes or (N, K) attributes -> (N, num_classes) float32: one-hot classes, attributes as they are."""
    if condition.ndim == 1:
        return torch.nn.functional.one_hot(condition, num_classes).float()
    return as_vector(condition).float()


def encode_labels(labels: Tensor, num_classes: int) -> Tensor:
    """Encode labels as input of a network: one-hot classes, attributes of -1 and 1, words unchanged.

    Zeros are the null condition; a class of -1, attributes of 1/2 and words of 0 become zeros.

    Args:
        labels: (N,) int64 classes, (N, K) float attributes of 0 and 1, or (N, L) int64 words.
        num_classes: number of classes.

    Returns:
        (N, num_classes), (N, K) or (N, L).
    """
    if labels.ndim == 1:
        return condition_vector(labels.clamp(min=0), num_classes) * (labels >= 0)[:, None]
    return 2 * labels - 1 if labels.is_floating_point() else labels


def drop_condition(condition: Tensor | None, dropout: float) -> Tensor | None:
    """Condition dropout: `condition` (N, ...) with a random share `dropout` of its rows set to the null condition."""
    if condition is None or not dropout:
        return condition
    keep = torch.rand(len(condition), device=condition.device) >= dropout
    return condition * keep.view(-1, *[1] * (condition.ndim - 1))


def check_labels(conditional: bool, num_classes: int) -> None:
    """Raise UserError for a conditional model of data without labels."""
    if conditional and num_classes == 0:
        raise UserError(
            "the model is conditional and the data have no labels: add --model.init_args.conditional false, "
            "or choose data with labels"
        )


def check_condition(conditional: bool, num_classes: int, condition: Tensor | None, num_seeds: int) -> None:
    """Raise ValueError unless `condition` fits the model and the number of seeds."""
    if conditional and condition is None:
        raise ValueError(f"this model is conditional: give a condition, one of {num_classes} classes for each seed")
    if not conditional and condition is not None:
        raise ValueError("this model is unconditional: it takes no condition")
    if condition is not None and len(condition) != num_seeds:
        raise ValueError(f"{num_seeds} seeds but {len(condition)} conditions: give one condition for each seed")
